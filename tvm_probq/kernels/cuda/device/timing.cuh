// What measuring needs: time that passes, and products of bytes with nothing else.
namespace probq {

// Keep the device busy for so many cycles, while what is to be timed is queued behind.
template <int CYCLES>
__device__ void wait_cycles(void* out) {
  const long long start = clock64();
  while (clock64() - start < CYCLES) {
  }
  if (threadIdx.x == 0) *(int*)out = 1;
}

// TURNS times CHAINS products [16, 32] by [32, 8] of each warp, which do not wait for each other.
template <int TURNS, int CHAINS>
__device__ void products(void* out) {
  int sums[CHAINS][4] = {};
  const unsigned lane = threadIdx.x;
  const unsigned a[4] = {lane, lane + 1, lane + 2, lane + 3}, b[2] = {lane + 4, lane + 5};
  for (int i = 0; i < TURNS; ++i)
#pragma unroll
    for (int j = 0; j < CHAINS; ++j) multiply(sums[j], a, b);
  int total = 0;
  for (int j = 0; j < CHAINS; ++j)
    for (int e = 0; e < 4; ++e) total += sums[j][e];
  ((int*)out)[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

}  // namespace probq
