// Sums of codes and of their squares over a grid of positions: what surrogates read.
namespace probq {

// Grid: blocks of 32 channels, one, samples.  A lane has a channel, WARPS share the positions.
template <int H, int W, int C, int DOWN, int RIGHT, int WARPS, bool HALVES>
__device__ void sums_of_codes(const void* x, void* out) {
  __shared__ int found[2][WARPS][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int channel = blockIdx.x * 32 + lane, sample = blockIdx.z;
  constexpr int rows = (H + DOWN - 1) / DOWN, columns = (W + RIGHT - 1) / RIGHT;
  int total = 0, squares = 0;
  if (channel < C)
    for (int i = warp; i < rows * columns; i += WARPS) {
      const long pixel = ((long)sample * H + i / columns * DOWN) * W + i % columns * RIGHT;
      const int byte_at = HALVES ? channel % (C / 2) : channel;
      int code = ((const byte*)x)[pixel * (HALVES ? C / 2 : C) + byte_at];
      if (HALVES) code = code >> half_shift<C>(channel) & 15;
      total += code;
      squares += code * code;
    }
  found[0][warp][lane] = total;
  found[1][warp][lane] = squares;
  __syncthreads();
  if (warp < 2 && channel < C) {
    int value = 0;
    for (int i = 0; i < WARPS; ++i) value += found[warp][i][lane];
    ((int*)out)[(sample * 2 + warp) * C + channel] = value;
  }
}

}  // namespace probq
