// Layers that sum over channels, as a product of matrices: positions times sums of codes.
namespace probq {

// A block makes ROWS positions times COLUMNS channels, each of its warps WARP_ROWS times
// WARP_COLUMNS of them: by tensor cores, or by dot products of four bytes.  With FOURS each byte
// holds two codes of 4 bits, and each byte of weights the two that belong to them.
template <int ROWS_, int COLUMNS_, int WARP_ROWS_, int WARP_COLUMNS_, bool TENSOR_, bool FOURS_>
struct Tile {
  static constexpr int rows = ROWS_, columns = COLUMNS_;
  static constexpr int warp_rows = WARP_ROWS_, warp_columns = WARP_COLUMNS_;
  static constexpr bool tensor = TENSOR_, fours = FOURS_;
  static constexpr int depth = 64;            // bytes of the sums at once
  static constexpr int pitch = depth + 16;    // of a row in shared memory: no two in one bank
  static constexpr int chunks = depth / 16;
  static constexpr int across = COLUMNS_ / WARP_COLUMNS_;
  static constexpr int threads = 32 * (ROWS_ / WARP_ROWS_) * across;
};

// Sums of a warp by tensor cores.
template <class T, bool TENSOR = T::tensor>
struct Sums {
  static constexpr int down = T::warp_rows / 16, right = T::warp_columns / 8;
  int values[down][right][4];

  __device__ void clear() {
    for (int i = 0; i < down; ++i)
      for (int j = 0; j < right; ++j)
        for (int e = 0; e < 4; ++e) values[i][j][e] = 0;
  }

  // From sums of upper bytes to those of codes of which they are.
  __device__ void scale() {
    for (int i = 0; i < down; ++i)
      for (int j = 0; j < right; ++j)
        for (int e = 0; e < 4; ++e) values[i][j][e] *= 256;
  }

  __device__ static unsigned word(const byte* tile, int row, int at) {
    return *(const unsigned*)(tile + row * T::pitch + at);
  }

  __device__ void add(const byte* codes, const byte* weights, int lane) {
#pragma unroll
    for (int k = 0; k < T::depth; k += 32) {
      const int row = lane / 4, at = k + lane % 4 * 4;
      unsigned b[right][2];
#pragma unroll
      for (int j = 0; j < right; ++j) {
        b[j][0] = word(weights, 8 * j + row, at);
        b[j][1] = word(weights, 8 * j + row, at + 16);
      }
#pragma unroll
      for (int i = 0; i < down; ++i) {
        const unsigned a[4] = {word(codes, 16 * i + row, at), word(codes, 16 * i + row + 8, at),
                               word(codes, 16 * i + row, at + 16),
                               word(codes, 16 * i + row + 8, at + 16)};
#pragma unroll
        for (int j = 0; j < right; ++j) {
          if constexpr (T::fours)
            multiply_fours(values[i][j], a, b[j]);
          else
            multiply(values[i][j], a, b[j]);
        }
      }
    }
  }

  // Hand row, column and sum of each of this lane's elements to `take`.
  template <class F>
  __device__ void each(int lane, F take) const {
#pragma unroll
    for (int i = 0; i < down; ++i)
#pragma unroll
      for (int j = 0; j < right; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          take(16 * i + lane / 4 + 8 * (e / 2), 8 * j + lane % 4 * 2 + e % 2, values[i][j][e]);
  }
};

// Sums of a warp by dot products: lanes are 4 rows by 8 columns.
template <class T>
struct Sums<T, false> {
  static constexpr int down = T::warp_rows / 4, right = T::warp_columns / 8;
  int values[down][right];

  __device__ void clear() {
    for (int i = 0; i < down; ++i)
      for (int j = 0; j < right; ++j) values[i][j] = 0;
  }

  __device__ void scale() {
    for (int i = 0; i < down; ++i)
      for (int j = 0; j < right; ++j) values[i][j] *= 256;
  }

  __device__ void add(const byte* codes, const byte* weights, int lane) {
#pragma unroll
    for (int k = 0; k < T::depth; k += 4) {
      unsigned b[right];
#pragma unroll
      for (int j = 0; j < right; ++j)
        b[j] = *(const unsigned*)(weights + (8 * j + lane % 8) * T::pitch + k);
#pragma unroll
      for (int i = 0; i < down; ++i) {
        const unsigned a = *(const unsigned*)(codes + (4 * i + lane / 8) * T::pitch + k);
#pragma unroll
        for (int j = 0; j < right; ++j) values[i][j] = dot(a, b[j], values[i][j]);
      }
    }
  }

  template <class F>
  __device__ void each(int lane, F take) const {
#pragma unroll
    for (int i = 0; i < down; ++i)
#pragma unroll
      for (int j = 0; j < right; ++j) take(4 * i + lane / 8, 8 * j + lane % 8, values[i][j]);
  }
};

// Brings tiles of codes and weights from global to shared memory, by way of registers.
template <class S, class E, class T, bool MANY>
struct Loader {
  static constexpr int code_chunks = (T::rows * T::chunks + T::threads - 1) / T::threads;
  static constexpr int weight_chunks = (T::columns * T::chunks + T::threads - 1) / T::threads;
  const Arguments& given;
  int group, column, thread;
  Place places[code_chunks];
  typename S::code zeros[code_chunks];
  Sixteen codes[code_chunks], weights[weight_chunks];

  // MANY: rows are samples of one position each; else positions of the sample blockIdx.z.
  __device__ Loader(const Arguments& arguments, int first_row, int group_, int column_, int thread_)
      : given(arguments), group(group_), column(column_), thread(thread_) {
    for (int i = 0; i < code_chunks; ++i) {
      const int index = thread + i * T::threads, row = first_row + index / T::chunks;
      const int sample = MANY ? row : (int)blockIdx.z;
      const bool real = index < T::rows * T::chunks && row < (MANY ? S::samples : S::positions);
      places[i] = place_of<S>(sample, MANY ? 0 : row, real);
      const int at = sample * 3 * E::in_ranges + E::in_ranges;
      zeros[i] = real && S::pads ? (typename S::code)given.x_parameters[at] : 0;
      if (T::fours) zeros[i] *= 17;  // in both halves
    }
  }

  __device__ void fetch(int k, int part) {
#pragma unroll
    for (int i = 0; i < code_chunks; ++i) {
      const int at = k + (thread + i * T::threads) % T::chunks * 16;
      codes[i] = codes_of<S>(given.x, places[i], group, at, zeros[i], part);
    }
#pragma unroll
    for (int i = 0; i < weight_chunks; ++i) {
      const int index = thread + i * T::threads, row = column + index / T::chunks;
      const int at = k + index % T::chunks * 16;
      const bool real = index < T::columns * T::chunks && row < S::outputs && at < S::padded;
      const int channel = Epilogue<S::out_channels, E>::order(group * S::outputs + row);
      weights[i] = real ? weights_of<S>(given.weights, channel, at) : Sixteen{};
    }
  }

  __device__ void put(byte* code_tile, byte* weight_tile) const {
#pragma unroll
    for (int i = 0; i < code_chunks; ++i) {
      const int index = thread + i * T::threads;
      if (index < T::rows * T::chunks) write(code_tile, index, codes[i]);
    }
#pragma unroll
    for (int i = 0; i < weight_chunks; ++i) {
      const int index = thread + i * T::threads;
      if (index < T::columns * T::chunks) write(weight_tile, index, weights[i]);
    }
  }

  __device__ static void write(byte* tile, int index, const Sixteen& values) {
    const unsigned* w = values.words;
    *(uint4*)(tile + index / T::chunks * T::pitch + index % T::chunks * 16) =
        make_uint4(w[0], w[1], w[2], w[3]);
  }
};

// Grid: blocks of rows, blocks of channels of each group, samples (one if MANY).
template <class S, class E, class T, bool MANY>
__device__ void dense(const void* x, const void* w, const void* scale, const void* total,
                      const void* bias, const void* xq, const void* correction, const void* yq,
                      const void* residual, const void* rq, void* out) {
  static_assert(2 * T::pitch >= T::columns, "codes of a block fit its tiles");
  __shared__ alignas(16) byte code_tiles[2][T::rows * T::pitch];
  __shared__ alignas(16) byte weight_tiles[2][T::columns * T::pitch];
  __shared__ alignas(16) Channel channels[MANY ? 1 : T::columns];
  const Arguments given = {x,                   w,
                           (const float*)scale, (const int*)total,
                           (const float*)bias,  (const float*)xq,
                           (const float*)correction, (const float*)yq,
                           residual,            (const float*)rq, out};
  const Epilogue<S::out_channels, E> epilogue = {given};
  constexpr int blocks = (S::outputs + T::columns - 1) / T::columns;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int group = blockIdx.y / blocks, column = blockIdx.y % blocks * T::columns;
  const int first = blockIdx.x * T::rows;
  const int down = warp / T::across * T::warp_rows, right = warp % T::across * T::warp_columns;

  Loader<S, E, T, MANY> loader(given, first, group, column, thread);
  Sums<T> sums;
  sums.clear();
  loader.fetch(0, S::passes - 1);
  loader.put(code_tiles[0], weight_tiles[0]);
  if (!MANY)
    for (int i = thread; i < T::columns && column + i < S::outputs; i += T::threads)
      channels[i] = epilogue.channel(blockIdx.z, epilogue.order(group * S::outputs + column + i));
  __syncthreads();
  constexpr int steps = (S::length + T::depth - 1) / T::depth;
  for (int step = 0; step < S::passes * steps; ++step) {
    const int now = step % 2, next = step + 1, pass = next < steps ? 0 : next / steps;
    if (next < S::passes * steps)
      loader.fetch((next - pass * steps) * T::depth, S::passes - 1 - pass);
    sums.add(code_tiles[now] + down * T::pitch, weight_tiles[now] + right * T::pitch, lane);
    if (S::passes == 2 && next == steps) sums.scale();
    if (next < S::passes * steps) loader.put(code_tiles[1 - now], weight_tiles[1 - now]);
    __syncthreads();
  }

  const auto finish = [&](int i, int j, int value, auto take) {
    const int row = first + down + i, c = right + j;
    if (row >= (MANY ? S::samples : S::positions) || column + c >= S::outputs) return;
    const int channel = epilogue.order(group * S::outputs + column + c);
    const int sample = MANY ? row : (int)blockIdx.z;
    const long position = MANY ? row : (long)blockIdx.z * S::positions + row;
    const Channel found = MANY ? epilogue.channel(sample, channel) : channels[c];
    take(position * S::out_channels + channel, value, sample, found, (down + i) * T::columns + c);
  };
  constexpr bool bytes = E::output == CODES && sizeof(typename E::code) == 1;
  if constexpr (bytes && (S::outputs % 16 == 0 || E::packs)) {
    byte* tile = code_tiles[0];  // codes of the block, which leave it 16 (or 8) at a time
    sums.each(lane, [&](int i, int j, int value) {
      finish(i, j, value, [&](long element, int total, int sample, const Channel& c, int at) {
        tile[at] = epilogue.code(element, total, sample, c);
      });
    });
    __syncthreads();
    constexpr int leave = E::packs ? 8 : 16;
    for (int i = thread; i < T::rows * T::columns / leave; i += T::threads) {
      const int row = first + i / (T::columns / leave);
      const int c = column + i % (T::columns / leave) * leave;
      if (row >= (MANY ? S::samples : S::positions) || c >= S::outputs) continue;
      const long position = MANY ? row : (long)blockIdx.z * S::positions + row;
      const long element = position * S::out_channels + group * S::outputs + c;
      const byte* from = tile + i * leave;
      if constexpr (E::packs) {
        unsigned packed = 0;
        for (int e = 0; e < 4; ++e) packed |= (from[2 * e] | from[2 * e + 1] << 4) << 8 * e;
        *(unsigned*)((byte*)given.out + element / 2) = packed;
      } else {
        *(uint4*)((byte*)given.out + element) = *(const uint4*)from;
      }
    }
  } else {
    sums.each(lane, [&](int i, int j, int value) {
      finish(i, j, value, [&](long element, int total, int sample, const Channel& c, int) {
        epilogue.store(element, total, sample, c);
      });
    });
  }
}

}  // namespace probq
