// What kernels use of the machine beyond C++: each instruction and its meaning, in one place.
// A program that runs kernels on a CPU defines PROBQ_EMULATED and these functions itself.
#ifndef PROBQ_EMULATED

namespace probq {

// sum + a . b: four products of unsigned and signed bytes (PTX ISA, dp4a).
__device__ inline int dot(unsigned a, unsigned b, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

// sums += A B of a warp: A unsigned bytes [16, 32], B signed bytes [32, 8] (PTX ISA, mma.m16n8k32).
// Lane l has bytes 4 (l % 4) on of rows l / 4 and l / 4 + 8 in a[0], a[1], and 16 bytes further in
// a[2], a[3]; of column l / 4 in b[0], b[1]; sums of columns 2 (l % 4) on of the two rows.
__device__ inline void multiply(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same of numbers of 4 bits, two in a byte: A unsigned [16, 64], B signed [64, 8] (PTX ISA,
// mma.m16n8k64).  Which bytes a lane has is the same.
__device__ inline void multiply_fours(int (&sums)[4], const unsigned (&a)[4],
                                      const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k64.row.col.s32.u4.s4.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else

// The same by four products [8, 16] by [16, 8], which have the same order of registers.
__device__ inline void multiply_part(int& low, int& high, unsigned a, unsigned b) {
  asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(low), "+r"(high)
      : "r"(a), "r"(b));
}

__device__ inline void multiply(int (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  multiply_part(sums[0], sums[1], a[0], b[0]);
  multiply_part(sums[0], sums[1], a[2], b[1]);
  multiply_part(sums[2], sums[3], a[1], b[0]);
  multiply_part(sums[2], sums[3], a[3], b[1]);
}

__device__ inline void multiply_part_of_fours(int& low, int& high, unsigned a, unsigned b) {
  asm("mma.sync.aligned.m8n8k32.row.col.s32.u4.s4.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(low), "+r"(high)
      : "r"(a), "r"(b));
}

__device__ inline void multiply_fours(int (&sums)[4], const unsigned (&a)[4],
                                      const unsigned (&b)[2]) {
  multiply_part_of_fours(sums[0], sums[1], a[0], b[0]);
  multiply_part_of_fours(sums[0], sums[1], a[2], b[1]);
  multiply_part_of_fours(sums[2], sums[3], a[1], b[0]);
  multiply_part_of_fours(sums[2], sums[3], a[3], b[1]);
}

#endif

// The sum of `value` over a warp, in every lane.
__device__ inline int warp_sum(int value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

}  // namespace probq

#endif
