// From int32 sums to output values: the steps of the simulator's `requantize`.
namespace probq {

enum Output { CODES, FLOATS, SUMS };

// Activations that are bounds of codes; the ends' bits, infinite where there is none.
template <int LOW, int HIGH>
struct Clip {
  static constexpr bool linear = true;
  static constexpr bool sixth = false;
  static __device__ float apply(float v) { return minimum(maximum(v, of_bits(LOW)), of_bits(HIGH)); }
};

struct None {
  static constexpr bool linear = true;
  static constexpr bool sixth = false;
  static __device__ float apply(float v) { return v; }
};

template <int SLOPE>
struct Leaky {
  static constexpr bool linear = false;
  static constexpr bool sixth = false;
  static __device__ float apply(float v) { return maximum(v, product(v, of_bits(SLOPE))); }
};

struct HardSigmoid {
  static constexpr bool linear = false;
  static constexpr bool sixth = true;
  static __device__ float apply(float v) { return minimum(maximum(sum(v, 3.0f), 0.0f), 6.0f); }
};

struct HardSwish {
  static constexpr bool linear = false;
  static constexpr bool sixth = true;
  static __device__ float apply(float v) { return product(v, HardSigmoid::apply(v)); }
};

// Which bounds of codes an activation gives.
template <class A>
struct Bounds {
  static __device__ void narrow(float, float, float&, float&) {}
};

template <int LOW, int HIGH>
struct Bounds<Clip<LOW, HIGH>> {
  static constexpr int infinite = 0x7f800000;
  static __device__ void narrow(float scale, float zero, float& lower, float& upper) {
    if ((LOW & infinite) != infinite)
      lower = maximum(rint(sum(quotient(of_bits(LOW), scale), zero)), 0.0f);
    if ((HIGH & infinite) != infinite)
      upper = minimum(rint(sum(quotient(of_bits(HIGH), scale), zero)), upper);
  }
};

// What follows the sums of a layer.
template <int OUTPUT_, class ACTIVATION_, bool CORRECTION_, bool RESIDUAL_, int IN_RANGES_,
          int OUT_RANGES_, int OUT_BITS_, int RESIDUAL_BITS_>
struct Tail {
  typedef typename Stored<OUT_BITS_>::code code;
  typedef typename Stored<RESIDUAL_BITS_>::code residual_code;
  static constexpr int output = OUTPUT_;
  typedef ACTIVATION_ activation;
  static constexpr bool correction = CORRECTION_;
  static constexpr bool residual = RESIDUAL_;
  static constexpr int in_ranges = IN_RANGES_;
  static constexpr int out_ranges = OUT_RANGES_;
  static constexpr bool packs = OUTPUT_ == CODES && OUT_BITS_ == 4;  // two codes in a byte
  static constexpr bool halves = RESIDUAL_BITS_ == 4;                // likewise, of the residual
};

// Arguments of a layer; those that it does not have are never read.
struct Arguments {
  const void* x;
  const void* weights;
  const float* weight_scale;
  const int* weight_sum;
  const float* bias;
  const float* x_parameters;
  const float* correction;
  const float* y_parameters;
  const void* residual;
  const float* residual_parameters;
  void* out;
};

// What is the same for all positions of a channel of a sample.
struct Channel {
  int centre;           // the zero-point's share of the sums
  float step, offset;   // of the output's steps, or real
  float lower, upper;   // bounds of the codes
  float residual_step;  // one step of the residual, likewise
  float y_step;         // of an activation on real values
  float y_zero;
};

template <int CHANNELS, class T>
struct Epilogue {
  Arguments given;

  __device__ Channel channel(int sample, int c) const {
    Channel found = {};
    if (T::output == SUMS) return found;
    const Parameters<T::in_ranges> x = {given.x_parameters, sample};
    found.centre = (int)x.zero(c) * given.weight_sum[c];
    found.step = product(x.scale(c), given.weight_scale[c]);
    found.offset = given.bias[c];
    if (T::correction) found.offset = sum(found.offset, given.correction[sample * CHANNELS + c]);
    if (T::residual) found.residual_step = given.residual_parameters[sample * 3];
    if constexpr (T::output == CODES) {
      const Parameters<T::out_ranges> y = {given.y_parameters, sample};
      stored(found, y.scale(c), y.zero(c), y.largest(c));
    }
    return found;
  }

  // The channel that is made as number `i`: where codes are packed, neighbours share a byte.
  __device__ static int order(int i) {
    return T::packs ? i % 2 * (CHANNELS / 2) + i / 2 : i;
  }

  // The output value of a sum, at an element of the output, which a residual has as well.
  __device__ void store(long element, int total, int sample, const Channel& c) const {
    if constexpr (T::output == SUMS) {
      ((int*)given.out)[element] = total;
    } else if constexpr (T::output == FLOATS) {
      float v = T::activation::apply(real(element, total, sample, c));
      if (T::activation::sixth) v = product(v, 1.0f / 6.0f);
      ((float*)given.out)[element] = v;
    } else {
      ((typename T::code*)given.out)[element] = code(element, total, sample, c);
    }
  }

  // The byte of two sums of a position (over all samples): of channel `c` and of half of them on.
  __device__ void store_pair(long position, int c, int low, int high, int sample) const {
    constexpr int half = CHANNELS / 2;
    const long at = position * CHANNELS + c;
    const int lower = code(at, low, sample, channel(sample, c));
    const int upper = code(at + half, high, sample, channel(sample, c + half));
    ((byte*)given.out)[position * half + c] = (byte)(lower | upper << 4);
  }

  __device__ typename T::code code(long element, int total, int sample, const Channel& c) const {
    float v = real(element, total, sample, c);
    if constexpr (!T::activation::linear) v = fma(T::activation::apply(v), c.y_step, c.y_zero);
    return (typename T::code)whole(minimum(maximum(v, c.lower), c.upper));
  }

 private:
  __device__ void stored(Channel& c, float scale, float zero, float largest) const {
    c.lower = 0.0f;
    c.upper = largest;
    if constexpr (T::activation::linear) {
      c.step = quotient(c.step, scale);
      c.offset = sum(quotient(c.offset, scale), zero);
      c.residual_step = quotient(c.residual_step, scale);
      Bounds<typename T::activation>::narrow(scale, zero, c.lower, c.upper);
    } else {
      c.y_step = quotient(T::activation::sixth ? 1.0f / 6.0f : 1.0f, scale);
      c.y_zero = zero;
    }
  }

  __device__ int other(long element) const {
    if constexpr (!T::halves) return ((const typename T::residual_code*)given.residual)[element];
    const int channel = element % CHANNELS;
    const long byte_at = element / CHANNELS * (CHANNELS / 2) + channel % (CHANNELS / 2);
    return ((const byte*)given.residual)[byte_at] >> half_shift<CHANNELS>(channel) & 15;
  }

  __device__ float real(long element, int total, int sample, const Channel& c) const {
    float v = fma((float)(total - c.centre), c.step, c.offset);
    if (T::residual) {
      const int zero = (int)given.residual_parameters[sample * 3 + 1];
      v = fma((float)(other(element) - zero), c.residual_step, v);
    }
    return v;
  }
};

}  // namespace probq
