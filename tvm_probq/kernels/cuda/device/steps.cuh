// The scalar steps of the simulator, each rounded by itself whatever the compiler's options.
namespace probq {

typedef unsigned char byte;

// What codes of activations are stored in.
template <int BITS>
struct Stored {
  typedef byte code;
};

template <>
struct Stored<16> {
  typedef short code;
};

// How far up in its byte the code of a channel lies, where two share it.
template <int CHANNELS>
__device__ inline int half_shift(int channel) {
  return channel < CHANNELS / 2 ? 0 : 4;
}

__device__ inline float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline float product(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float sum(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float quotient(float a, float b) { return __fdiv_rn(a, b); }

// Both give their second operand when they meet a NaN.
__device__ inline float maximum(float a, float b) { return a > b ? a : b; }
__device__ inline float minimum(float a, float b) { return a < b ? a : b; }
__device__ inline float bounded(float v, float limit) {
  return minimum(maximum(v, -limit), limit);
}

// As numpy.min and numpy.max: NaN if either is.
__device__ inline float nan_minimum(float a, float b) { return a != a || a < b ? a : b; }
__device__ inline float nan_maximum(float a, float b) { return a != a || a > b ? a : b; }

// Half to even.
__device__ inline int whole(float v) { return __float2int_rn(v); }
__device__ inline float rint(float v) { return ::rintf(v); }

__device__ inline float of_bits(int bits) { return __int_as_float(bits); }
__device__ inline float power(int exponent) { return of_bits((exponent + 127) << 23); }

// Memory that the threads of a block share: BYTES in all, of which a buffer starts at OFFSET.
template <int BYTES>
__device__ inline byte* block_memory() {
  __shared__ alignas(16) byte memory[BYTES];
  return memory;
}

template <class T, int BYTES, int OFFSET>
__device__ inline T* scratch() {
  return (T*)(block_memory<BYTES>() + OFFSET);
}

// Parameters [N, 3, RANGES] of a tensor: scale, zero-point and largest code of a channel.
template <int RANGES>
struct Parameters {
  const float* values;
  int sample;

  __device__ float row(int row, int channel) const {
    return values[(sample * 3 + row) * RANGES + (RANGES > 1 ? channel : 0)];
  }
  __device__ float scale(int channel) const { return row(0, channel); }
  __device__ float zero(int channel) const { return row(1, channel); }
  __device__ float largest(int channel) const { return row(2, channel); }
};

}  // namespace probq
