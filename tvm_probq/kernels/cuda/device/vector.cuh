// Layers of one output position and few samples: a warp for each output channel.
namespace probq {

// Grid: blocks of channels, groups, samples.
template <class S, class E, int WARPS>
__device__ void vector(const void* x, const void* w, const void* scale, const void* total,
                       const void* bias, const void* xq, const void* correction, const void* yq,
                       const void* residual, const void* rq, void* out) {
  const Arguments given = {x,                   w,
                           (const float*)scale, (const int*)total,
                           (const float*)bias,  (const float*)xq,
                           (const float*)correction, (const float*)yq,
                           residual,            (const float*)rq, out};
  const Epilogue<S::out_channels, E> epilogue = {given};
  const int lane = threadIdx.x % 32, output = blockIdx.x * WARPS + threadIdx.x / 32;
  const int group = blockIdx.y, sample = blockIdx.z;
  constexpr int made = E::packs ? 2 : 1;  // channels of a warp, which share a byte
  if (output >= S::outputs / made) return;  // a whole warp
  const int channel = group * S::outputs + output;
  const int at = sample * 3 * E::in_ranges + E::in_ranges;
  const typename S::code zero = S::pads ? (typename S::code)given.x_parameters[at] : 0;
  const Place place = place_of<S>(sample, 0, true);
  int found[made] = {};
  for (int k = lane * 16; k < S::padded; k += 32 * 16) {
    constexpr bool once = S::run && S::inputs % 16 == 0;  // all 16 have one multiplier
#pragma unroll
    for (int part = 0; part < S::passes; ++part) {
      const Sixteen codes = codes_of<S>(given.x, place, group, k, zero, part);
#pragma unroll
      for (int m = 0; m < made; ++m) {
        const int row = channel + m * (S::out_channels / 2);
        const Sixteen weights = once ? weight_codes<S>(w, row, k) : weights_of<S>(w, row, k);
        int some = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) some = dot(codes.words[i], weights.words[i], some);
        if constexpr (once) some *= multiplier_of<S>(w, row, k);
        found[m] += part ? some * 256 : some;
      }
    }
  }
  for (int m = 0; m < made; ++m) found[m] = warp_sum(found[m]);
  if (lane != 0) return;
  if constexpr (E::packs)
    epilogue.store_pair(sample, channel, found[0], found[1], sample);
  else
    epilogue.store((long)sample * S::out_channels + channel, found[0], sample,
                   epilogue.channel(sample, channel));
}

}  // namespace probq
