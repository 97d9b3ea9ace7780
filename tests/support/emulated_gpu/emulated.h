// CUDA C++ on a CPU: the threads of a block are fibers that switch at barriers.
// Blocks run one after the other; every other launch runs the threads of a block in the opposite
// order, so that a missing barrier shows.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <sys/mman.h>

#define PROBQ_EMULATED
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)
#define alignas(n) __attribute__((aligned(n)))

struct dim3 { unsigned x, y, z; };
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace emulated {

constexpr int LANES = 32;
constexpr size_t STACK = 64 << 10;
constexpr int MOST = 1024;

enum Wait { NOTHING, BLOCK, WARP, DONE };

struct Fiber {
  void* stack_pointer;
  Wait waiting;
};

extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.local emulated_switch
emulated_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

static Fiber fibers[MOST];
static void* scheduler;
static int current, count;
static void (*body)(void*);
static void* body_argument;
static char* stacks;

// What a warp hands to an instruction of all its lanes, and what it gives back.
struct Slot { unsigned in[8]; int out[8]; };
static Slot slots[MOST];

inline void wait(Wait reason) {
  fibers[current].waiting = reason;
  emulated_switch(&fibers[current].stack_pointer, scheduler);
}

inline void start() {
  body(body_argument);
  wait(DONE);
}

inline bool all(int first, int last, Wait reason) {
  for (int i = first; i < last; ++i)
    if (fibers[i].waiting != reason && fibers[i].waiting != DONE) return false;
  return true;
}

inline void release(int first, int last, Wait reason) {
  for (int i = first; i < last; ++i)
    if (fibers[i].waiting == reason) fibers[i].waiting = NOTHING;
}

inline void prepare(int threads) {
  if (!stacks)
    stacks = (char*)mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  count = threads;
  for (int i = 0; i < threads; ++i) {
    void** top = (void**)(stacks + (i + 1) * STACK) - 2;
    *top = (void*)start;  // where the first switch returns to
    fibers[i] = {top - 6, NOTHING};
  }
}

inline void run_block(bool backwards) {
  int alive = count;
  while (alive) {
    bool moved = false;
    for (int k = 0; k < count; ++k) {
      const int i = backwards ? count - 1 - k : k;
      if (fibers[i].waiting != NOTHING) continue;
      moved = true;
      current = i;
      emulated_switch(&scheduler, fibers[i].stack_pointer);
      if (fibers[i].waiting == DONE) --alive;
    }
    if (alive && all(0, count, BLOCK)) {
      release(0, count, BLOCK);
    } else if (!moved && alive) {
      fprintf(stderr, "emulated GPU: the threads of a block wait for different barriers\n");
      abort();
    }
  }
}

// All lanes of a warp come together; the last one works for all.
template <class F>
inline void together(F work) {
  const int first = current / LANES * LANES;
  fibers[current].waiting = WARP;
  for (int i = first; i < first + LANES; ++i)
    if (fibers[i].waiting != WARP) {
      emulated_switch(&fibers[current].stack_pointer, scheduler);
      return;
    }
  work(slots + first);
  release(first, first + LANES, WARP);
}

}  // namespace emulated

static dim3 blockIdx, gridDim, blockDim;

struct Thread {
  struct Axis {
    operator unsigned() const { return emulated::current; }
  } x;
};
static Thread threadIdx;

inline void __syncthreads() { emulated::wait(emulated::BLOCK); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline int __float2int_rn(float v) { return v != v ? 0 : (int)std::nearbyint(v); }
inline float __int_as_float(int bits) { float v; memcpy(&v, &bits, 4); return v; }
// Of float operators, whose last bits are the device's own.
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int atomicAdd(int* at, int value) { const int before = *at; *at += value; return before; }
inline long long clock64() { static long long cycles; return cycles += 1 << 20; }

inline unsigned __vsub4(unsigned a, unsigned b) {
  unsigned found = 0;
  for (int i = 0; i < 32; i += 8) found |= (((a >> i) - (b >> i)) & 255u) << i;
  return found;
}

namespace probq {

inline int dot(unsigned a, unsigned b, int sum) {
  for (int i = 0; i < 32; i += 8) sum += (int)(uint8_t)(a >> i) * (int8_t)(b >> i);
  return sum;
}

// Products of two bytes, and of the two numbers of 4 bits in each.
inline int of_bytes(uint8_t a, uint8_t b) { return (int)a * (int8_t)b; }

inline int of_halves(uint8_t a, uint8_t b) {
  int sum = 0;
  for (int i = 0; i < 8; i += 4) {
    const int weight = b >> i & 15;
    sum += (a >> i & 15) * (weight < 8 ? weight : weight - 16);
  }
  return sum;
}

// The product of a warp, from the places of its operands that PTX gives (mma.m16n8k32, m16n8k64).
template <int (*PRODUCT)(uint8_t, uint8_t)>
void multiply_warp(emulated::Slot* slots) {
  uint8_t a[16][32], b[8][32];
  for (int lane = 0; lane < 32; ++lane) {
    const int row = lane / 4, at = lane % 4 * 4;
    for (int i = 0; i < 4; ++i) memcpy(&a[row + i % 2 * 8][at + i / 2 * 16], &slots[lane].in[i], 4);
    for (int i = 0; i < 2; ++i) memcpy(&b[row][at + i * 16], &slots[lane].in[4 + i], 4);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 4; ++e) {
      const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
      int sum = 0;
      for (int k = 0; k < 32; ++k) sum += PRODUCT(a[row][k], b[column][k]);
      slots[lane].out[e] = sum;
    }
}

template <int (*PRODUCT)(uint8_t, uint8_t)>
void multiply_by(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  emulated::Slot& own = emulated::slots[emulated::current];
  memcpy(own.in, a, 16);
  memcpy(own.in + 4, b, 8);
  emulated::together(multiply_warp<PRODUCT>);
  for (int e = 0; e < 4; ++e) sums[e] += own.out[e];
}

inline void multiply(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_by<of_bytes>(sums, a, b);
}

inline void multiply_fours(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_by<of_halves>(sums, a, b);
}

inline int warp_sum(int value) {
  emulated::Slot& own = emulated::slots[emulated::current];
  own.in[0] = value;
  emulated::together([](emulated::Slot* slots) {
    int sum = 0;
    for (int i = 0; i < emulated::LANES; ++i) sum += (int)slots[i].in[0];
    for (int i = 0; i < emulated::LANES; ++i) slots[i].out[0] = sum;
  });
  return own.out[0];
}

}  // namespace probq

namespace emulated {

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_reference_t<A>*)arguments[I]...);
}

template <class... A>
void launch(void (*kernel)(A...), void** arguments, dim3 grid, dim3 block) {
  static bool backwards;
  auto once = [&] { call(kernel, arguments, std::index_sequence_for<A...>()); };
  body = [](void* f) { (*(decltype(once)*)f)(); };
  body_argument = &once;
  gridDim = grid;
  blockDim = block;
  if (block.x > MOST || block.y * block.z != 1) abort();
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        prepare(block.x);
        run_block(backwards);
      }
  backwards = !backwards;
}

}  // namespace emulated
