// What the threads of a block do together inside of a kernel that predicts.
namespace probq {

// Sums of the codes of a sample and of their squares, over a grid of positions, [2, C] in shared
// memory.  A thread takes LANES neighbouring channels of every so many positions.
template <int H, int W, int C, int DOWN, int RIGHT, int THREADS>
__device__ void block_sums(const void* x, void* out, int sample) {
  constexpr int lanes = C % 4 ? 1 : 4, across = C / lanes;
  constexpr int together = across < THREADS ? THREADS / across : 1;
  constexpr int columns = (W + RIGHT - 1) / RIGHT, positions = (H + DOWN - 1) / DOWN * columns;
  int* found = (int*)out;
  const byte* codes = (const byte*)x + (long)sample * H * W * C;
  for (int i = threadIdx.x; i < 2 * C; i += THREADS) found[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < across * together; i += THREADS) {
    const int first = i % across * lanes;
    int totals[lanes] = {}, squares[lanes] = {};
#pragma unroll 4
    for (int p = i / across; p < positions; p += together) {
      const int pixel = p / columns * DOWN * W + p % columns * RIGHT;
      alignas(4) byte values[lanes];
      if constexpr (lanes == 4)
        *(unsigned*)values = *(const unsigned*)(codes + (long)pixel * C + first);
      else
        values[0] = codes[(long)pixel * C + first];
#pragma unroll
      for (int c = 0; c < lanes; ++c) {
        totals[c] += values[c];
        squares[c] += values[c] * values[c];
      }
    }
#pragma unroll
    for (int c = 0; c < lanes; ++c) {
      atomicAdd(found + first + c, totals[c]);
      atomicAdd(found + C + first + c, squares[c]);
    }
  }
}

}  // namespace probq
