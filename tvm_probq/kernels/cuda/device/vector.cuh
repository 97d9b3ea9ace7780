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
  if (output >= S::outputs) return;  // a whole warp
  const int channel = group * S::outputs + output;
  const int at = sample * 3 * E::in_ranges + E::in_ranges;
  const typename S::code zero = S::pads ? (typename S::code)given.x_parameters[at] : 0;
  const Place place = place_of<S>(sample, 0, true);
  int found = 0;
  for (int k = lane * 16; k < S::padded; k += 32 * 16) {
    constexpr bool once = S::run && S::inputs % 16 == 0;  // all 16 have one multiplier
    const Sixteen weights = once ? weight_codes<S>(w, channel, k) : weights_of<S>(w, channel, k);
    const int number = once ? multiplier_of<S>(w, channel, k) : 1;
#pragma unroll
    for (int part = 0; part < S::passes; ++part) {
      const Sixteen codes = codes_of<S>(given.x, place, group, k, zero, part);
      int some = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) some = dot(codes.words[i], weights.words[i], some);
      found += (part ? some * 256 : some) * number;
    }
  }
  found = warp_sum(found);
  if (lane == 0)
    epilogue.store((long)sample * S::out_channels + channel, found, sample,
                   epilogue.channel(sample, channel));
}

}  // namespace probq
