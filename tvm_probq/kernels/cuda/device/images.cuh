// What becomes of a network's input: its range, and its codes.
namespace probq {

// The parameters of an interval, made to include zero: the simulator's `make_qparams`.
__device__ inline void write_parameters(float* out, int sample, float low, float high, float largest) {
  low = minimum(low, 0.0f);
  high = maximum(high, 0.0f);
  const float scale = maximum(quotient(sum(high, -low), largest), 0x1p-40f);
  out[sample * 3] = scale;
  out[sample * 3 + 1] = rint(minimum(maximum(quotient(-low, scale), 0.0f), largest));
  out[sample * 3 + 2] = largest;
}

// Grid: one, one, samples.  The smallest interval around zero that holds all values but NaN.
template <int SIZE, int LARGEST, int THREADS>
__device__ void observe(const void* x, void* out) {
  __shared__ float lows[THREADS], highs[THREADS];
  const int thread = threadIdx.x, sample = blockIdx.z;
  const float* values = (const float*)x + (long)sample * SIZE;
  float low = 0.0f, high = 0.0f;
#pragma unroll 4
  for (int i = thread; i < SIZE; i += THREADS) {
    const float value = values[i];
    low = minimum(value, low);
    high = maximum(value, high);
  }
  lows[thread] = low;
  highs[thread] = high;
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) {
      lows[thread] = minimum(lows[thread], lows[thread + half]);
      highs[thread] = maximum(highs[thread], highs[thread + half]);
    }
  }
  if (thread == 0) write_parameters((float*)out, sample, lows[0], highs[0], (float)LARGEST);
}

// Grid: blocks of pixels, one, samples.  Codes [N, PIXELS, C] of reals [N, C, PIXELS].
template <int C, int PIXELS, int RANGES, int THREADS, int BITS>
__device__ void quantize_planes(const void* x, const void* parameters, void* out) {
  const int pixel = blockIdx.x * THREADS + threadIdx.x, sample = blockIdx.z;
  if (pixel >= PIXELS) return;
  const Parameters<RANGES> p = {(const float*)parameters, sample};
  for (int c = 0; c < C; ++c) {
    const float real = ((const float*)x)[((long)sample * C + c) * PIXELS + pixel];
    const float value = fma(real, quotient(1.0f, p.scale(c)), p.zero(c));
    const float bounded = minimum(maximum(value, 0.0f), p.largest(c));
    typedef typename Stored<BITS>::code Code;
    ((Code*)out)[((long)sample * PIXELS + pixel) * C + c] = (Code)whole(bounded);
  }
}

}  // namespace probq
