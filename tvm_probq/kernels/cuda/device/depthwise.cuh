// Layers whose channels are apart: a thread for each position of LANES neighbouring channels.
namespace probq {

template <class S>
__device__ inline int depthwise_weight(const void* weights, int index) {
  if constexpr (S::bits == 8) return ((const signed char*)weights)[index];
  return (((const byte*)weights)[index / 2] >> 4 * (index % 2) & 15) - 8;
}

// Grid: blocks of threads, one, samples.  Weights are [taps, channels].
template <class S, class E, int LANES, int THREADS>
__device__ void depthwise(const void* x, const void* w, const void* scale, const void* total,
                          const void* bias, const void* xq, const void* correction, const void* yq,
                          const void* residual, const void* rq, void* out) {
  const Arguments given = {x,                   w,
                           (const float*)scale, (const int*)total,
                           (const float*)bias,  (const float*)xq,
                           (const float*)correction, (const float*)yq,
                           residual,            (const float*)rq, out};
  const Epilogue<S::channels, E> epilogue = {given};
  const int sample = blockIdx.z, index = blockIdx.x * THREADS + threadIdx.x;
  constexpr int across = S::channels / LANES, half = S::channels / 2;
  const int position = index / across;
  // Neighbouring channels, or where codes are packed those of neighbouring bytes.
  constexpr bool apart = E::packs;
  constexpr int run = apart ? LANES / 2 : LANES;
  const int first = index % across * run;
  const auto channel = [&](int c) { return first + c % run + c / run * half; };
  if (position >= S::positions) return;
  const Place place = place_of<S>(sample, position, true);
  const Parameters<E::in_ranges> parameters = {given.x_parameters, sample};
  int sums[LANES] = {}, zeros[LANES] = {};
  if (S::pads)
    for (int i = 0; i < LANES; ++i) zeros[i] = (int)parameters.zero(channel(i));
  for (int i = 0; i < S::kernel_height; ++i) {
    const int row = place.row + i * S::dilation_height;
#pragma unroll
    for (int j = 0; j < S::kernel_width; ++j) {
      const int column = place.column + j * S::dilation_width;
      const bool inside = row >= 0 && row < S::height && column >= 0 && column < S::width;
      const long pixel = ((long)sample * S::height + row) * S::width + column;
      alignas(4) typename S::code codes[LANES];
      if (inside) {
        const typename S::code* at = (const typename S::code*)x + pixel * S::channels;
        if constexpr (S::halves)
          for (int c = 0; c < LANES; ++c)
            codes[c] = ((const byte*)x)[pixel * half + channel(c) % half] >>
                       half_shift<S::channels>(channel(c)) & 15;
        else if constexpr (LANES == 4 && S::passes == 1 && !apart)
          *(unsigned*)codes = *(const unsigned*)(at + first);
        else
          for (int c = 0; c < LANES; ++c) codes[c] = at[channel(c)];
      }
#pragma unroll
      for (int c = 0; c < LANES; ++c) {
        const int weight = depthwise_weight<S>(w, (i * S::kernel_width + j) * S::channels + channel(c));
        sums[c] += (inside ? (int)codes[c] : zeros[c]) * weight;
      }
    }
  }
  const long row = (long)sample * S::positions + position;
  if constexpr (E::packs) {
#pragma unroll
    for (int c = 0; c < LANES / 2; ++c)
      epilogue.store_pair(row, first + c, sums[c], sums[c + LANES / 2], sample);
  } else {
#pragma unroll
    for (int c = 0; c < LANES; ++c)
      epilogue.store(row * S::channels + first + c, sums[c], sample,
                     epilogue.channel(sample, first + c));
  }
}

}  // namespace probq
