// Shapes of layers, and how their weights lie in memory.
namespace probq {

template <int N_, int H_, int W_, int C_, int OH_, int OW_, int OC_, int KH_, int KW_, int SH_,
          int SW_, int TOP_, int LEFT_, int DH_, int DW_, int GROUPS_, int BITS_, int RUN_,
          int CODE_BITS_>
struct Shape {
  typedef typename Stored<CODE_BITS_>::code code;
  static constexpr bool halves = CODE_BITS_ == 4;  // two codes in a byte
  static constexpr int passes = sizeof(code);  // products of bytes: upper ones first, then lower
  static constexpr int samples = N_, height = H_, width = W_, channels = C_;
  static constexpr int out_height = OH_, out_width = OW_, out_channels = OC_;
  static constexpr int kernel_height = KH_, kernel_width = KW_;
  static constexpr int stride_height = SH_, stride_width = SW_, top = TOP_, left = LEFT_;
  static constexpr int dilation_height = DH_, dilation_width = DW_;
  static constexpr int groups = GROUPS_, bits = BITS_;
  static constexpr int inputs = C_ / GROUPS_, outputs = OC_ / GROUPS_;  // of a group
  static constexpr int run = RUN_;  // inputs that share a multiplier of weights; 0: there is none
  static constexpr int runs = RUN_ ? (inputs + RUN_ - 1) / RUN_ : 0;
  static constexpr int positions = OH_ * OW_;
  static constexpr int taps = KH_ * KW_;
  static constexpr int length = taps * inputs;              // of a sum
  static constexpr int padded = (length + 15) / 16 * 16;    // in packed weights
  static constexpr bool pads = TOP_ || LEFT_ || (OH_ - 1) * SH_ + (KH_ - 1) * DH_ - TOP_ >= H_ ||
                               (OW_ - 1) * SW_ + (KW_ - 1) * DW_ - LEFT_ >= W_;
};

struct Sixteen {
  unsigned words[4];
};

__device__ inline Sixteen sixteen(const void* address) {
  const uint4 found = *(const uint4*)address;
  return {{found.x, found.y, found.z, found.w}};
}

// Codes of one output channel, 16 from `first` on; rows of packed weights have S::padded codes.
// Of fewer than 8 bits they are stored plus half of their range, 16 in 2 * bits bytes: planes of
// their lower 4 bits (two words, of whose bytes the halves are a code) and of 2 bits (one word).
template <class S>
__device__ inline Sixteen weight_codes(const void* weights, long row, int first) {
  if constexpr (S::bits == 8) {
    return sixteen((const byte*)weights + row * S::padded + first);
  } else {
    const long chunk = (row * S::padded + first) / 16;
    const unsigned* planes = (const unsigned*)((const byte*)weights + chunk * (2 * S::bits));
    const unsigned half = (1u << (S::bits - 1)) * 0x01010101u;
    Sixteen found = {};
    for (int i = 0; i < 4; ++i) {
      if (S::bits >= 4) found.words[i] = planes[i / 2] >> 4 * (i % 2) & 0x0f0f0f0fu;
      if (S::bits == 2) found.words[i] = planes[0] >> 2 * i & 0x03030303u;
      if (S::bits == 6) found.words[i] |= (planes[2] >> 2 * i & 0x03030303u) << 4;
      found.words[i] = __vsub4(found.words[i], half);
    }
    return found;
  }
}

// The multiplier of code `k` of an output channel: behind all codes there is a byte for each run.
template <class S>
__device__ inline int multiplier_of(const void* weights, long row, int k) {
  const byte* behind = (const byte*)weights + (long)S::out_channels * (S::padded / 8 * S::bits);
  return behind[row * S::runs + k % S::inputs / S::run];
}

// Four signed bytes, each times a number of at most 127 such that it stays one.
__device__ inline unsigned times(unsigned bytes, unsigned number) {
  const unsigned even = (bytes & 0x00ff00ffu) * number, odd = (bytes >> 8 & 0x00ff00ffu) * number;
  return (even & 0x00ff00ffu) | (odd << 8 & 0xff00ff00u);
}

// Weights of one output channel, 16 from `first` on: codes times their multipliers.
template <class S>
__device__ inline Sixteen weights_of(const void* weights, long row, int first) {
  Sixteen found = weight_codes<S>(weights, row, first);
  if constexpr (S::run && S::inputs % 16 == 0) {
    const int number = multiplier_of<S>(weights, row, first);
    for (int i = 0; i < 4; ++i) found.words[i] = times(found.words[i], number);
  } else if constexpr (S::run && S::inputs % 4 == 0) {
    for (int i = 0; i < 4; ++i)
      found.words[i] = times(found.words[i], multiplier_of<S>(weights, row, first + 4 * i));
  } else if constexpr (S::run) {
    for (int i = 0; i < 16; ++i) {
      const unsigned own = 0xffu << 8 * (i % 4), word = found.words[i / 4];
      const unsigned product = times(word, multiplier_of<S>(weights, row, first + i));
      found.words[i / 4] = (word & ~own) | (product & own);
    }
  }
  return found;
}

// Where the receptive field of an output position starts.
struct Place {
  int sample, row, column;
  bool real;
};

template <class S>
__device__ inline Place place_of(int sample, int position, bool real) {
  const int row = position / S::out_width, column = position % S::out_width;
  return {sample, row * S::stride_height - S::top, column * S::stride_width - S::left, real};
}

// Address of code `k` of a sum, or of its byte, in the order tap, channel; null outside of the image.
template <class S>
__device__ inline const typename S::code* code_at(const void* x, const Place& place, int group,
                                                  int k) {
  const int tap = k / S::inputs, channel = k % S::inputs;
  const int row = place.row + tap / S::kernel_width * S::dilation_height;
  const int column = place.column + tap % S::kernel_width * S::dilation_width;
  if (S::pads && (row < 0 || row >= S::height || column < 0 || column >= S::width)) return nullptr;
  const long pixel = ((long)place.sample * S::height + row) * S::width + column;
  const int c = group * S::inputs + channel;
  if constexpr (S::halves) return (const byte*)x + pixel * (S::channels / 2) + c % (S::channels / 2);
  return (const typename S::code*)x + pixel * S::channels + c;
}

// Codes k .. k + 15 of the sum at a position, of two in a byte.
template <class S>
__device__ inline Sixteen halves_of(const void* x, const Place& place, int group, int k, byte zero) {
  constexpr int together = S::inputs % 4 == 0 ? 4 : 1;  // of a tap, in one half of their bytes
  Sixteen found = {};
  for (int i = 0; i < 16; i += together) {
    if (k + i >= S::length) break;
    const byte* at = code_at<S>(x, place, group, k + i);
    const int shift = half_shift<S::channels>(group * S::inputs + (k + i) % S::inputs);
    if constexpr (together == 4)
      found.words[i / 4] = at ? *(const unsigned*)at >> shift & 0x0f0f0f0fu : zero * 0x01010101u;
    else
      found.words[i / 4] |= (unsigned)(at ? *at >> shift & 15 : zero) << 8 * (i % 4);
  }
  return found;
}

// Bytes `part` (1 for the upper ones) of eight codes of 16 bits.
__device__ inline void bytes_of(const uint4& codes, int part, unsigned* words) {
  const unsigned pairs[4] = {codes.x >> 8 * part & 0x00ff00ffu, codes.y >> 8 * part & 0x00ff00ffu,
                             codes.z >> 8 * part & 0x00ff00ffu, codes.w >> 8 * part & 0x00ff00ffu};
  for (int i = 0; i < 2; ++i) {
    const unsigned low = pairs[2 * i] | pairs[2 * i] >> 8, high = pairs[2 * i + 1];
    words[i] = (low & 0xffffu) | (high | high >> 8) << 16;
  }
}

// The same bytes of codes k .. k + 15 of the sum at a position.
template <class S>
__device__ inline Sixteen parts_of(const void* x, const Place& place, int group, int k, short zero,
                                   int part) {
  Sixteen found = {};
  if constexpr (S::inputs % 8 == 0) {
    const unsigned twice = (unsigned)zero * 0x00010001u;
    for (int i = 0; i < 2; ++i) {
      if (k + 8 * i >= S::length) break;
      const short* at = code_at<S>(x, place, group, k + 8 * i);
      const uint4 codes = at ? *(const uint4*)at : make_uint4(twice, twice, twice, twice);
      bytes_of(codes, part, found.words + 2 * i);
    }
  } else {
    for (int i = 0; i < 16; ++i) {
      if (k + i >= S::length) break;
      const short* at = code_at<S>(x, place, group, k + i);
      found.words[i / 4] |= ((unsigned)(at ? *at : zero) >> 8 * part & 255u) << 8 * (i % 4);
    }
  }
  return found;
}

// Codes k .. k + 15 of the sum at a position, or bytes `part` of those of 16 bits; `zero` is the
// code of real zero.
template <class S>
__device__ inline Sixteen codes_of(const void* x, const Place& place, int group, int k,
                                   typename S::code zero, int part) {
  Sixteen found = {};
  if (!place.real) return found;
  if constexpr (S::passes == 2) {
    return parts_of<S>(x, place, group, k, zero, part);
  } else if constexpr (S::halves) {
    return halves_of<S>(x, place, group, k, zero);
  } else if constexpr (S::inputs % 16 == 0) {
    if (k >= S::length) return found;
    const byte* at = code_at<S>(x, place, group, k);
    if (at) return sixteen(at);
    for (int i = 0; i < 4; ++i) found.words[i] = zero * 0x01010101u;
  } else if constexpr (S::inputs % 4 == 0) {
    for (int i = 0; i < 4; ++i) {
      if (k + 4 * i >= S::length) break;
      const byte* at = code_at<S>(x, place, group, k + 4 * i);
      found.words[i] = at ? *(const unsigned*)at : zero * 0x01010101u;
    }
  } else {
    for (int i = 0; i < 16; ++i) {
      if (k + i >= S::length) break;
      const byte* at = code_at<S>(x, place, group, k + i);
      found.words[i / 4] |= (unsigned)(at ? *at : zero) << 8 * (i % 4);
    }
  }
  return found;
}

}  // namespace probq
