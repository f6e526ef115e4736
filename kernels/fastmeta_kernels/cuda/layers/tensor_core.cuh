// Products of two tiles in shared memory on tensor cores, in TF32: 8 bits of exponent and 10 of mantissa.
//
// TF32X3 splits each factor into two of them, a = a_hi + a_lo, and adds a_lo b_hi + a_hi b_lo + a_hi b_hi: what it leaves
// out is 2^-22 of a product. Tensor cores cut off what does not fit when they add, so the sum of 8 places begins at
// 0 and is then added to the others with rounding (Ootomo and Yokota 2022, arXiv 2203.03341).
// 8 warps share a tile of 64 x (16 COLUMNS), 4 along its rows and 2 along its columns: each has 16 x (8 COLUMNS) sums.
#pragma once
#include "../machine/base.cuh"

enum Precision { FP32, TF32X3, TF32 };

// Where a lane of a warp finds its values in the operands of m16n8k8: A(row, k), B(k, column), C(row, column).
DEVICE int tensor_group() { return threadIdx.x % 32 / 4; }
DEVICE int tensor_place() { return threadIdx.x % 4; }
DEVICE int tensor_row(int i) { return tensor_group() + i / 2 * 8; }           // of C's i-th value
DEVICE int tensor_column(int i) { return 2 * tensor_place() + i % 2; }
DEVICE int warp_row() { return threadIdx.x / 64 * 16; }
template <int COLUMNS>
DEVICE int warp_column() {
  return threadIdx.x / 32 % 2 * 8 * COLUMNS;
}

#ifndef TENSOR_CORES_ON_CPU
DEVICE unsigned to_tf32(float x) {
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}
// C += A B.
DEVICE void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// A factor as one TF32 number or as two.
template <int PRECISION>
DEVICE void split(float x, unsigned& high, unsigned& low) {
  high = to_tf32(x);
  if constexpr (PRECISION == TF32X3) low = to_tf32(x - __uint_as_float(high));
}

// sums[i][j] += A B of tiles A (DEPTH, 64) and B (DEPTH, 16 COLUMNS), rows of which are so far apart.
template <int PRECISION, int COLUMNS, int DEPTH>
DEVICE void add_tensor_stage(float (&sums)[4][COLUMNS], const float* left, int left_row, const float* right,
                             int right_row) {
#pragma unroll 1  // registers are scarce
  for (int first = 0; first < DEPTH; first += 8) {
    unsigned a[4], a_low[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int k = first + tensor_place() + i / 2 * 4, row = warp_row() + tensor_group() + i % 2 * 8;
      split<PRECISION>(left[k * left_row + row], a[i], a_low[i]);
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      unsigned b[2], b_low[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int k = first + tensor_place() + 4 * i, column = warp_column<COLUMNS>() + 8 * j + tensor_group();
        split<PRECISION>(right[k * right_row + column], b[i], b_low[i]);
      }
      float c[4] = {};
      if constexpr (PRECISION == TF32X3) {
        multiply_add(c, a_low, b);
        multiply_add(c, a, b_low);
      }
      multiply_add(c, a, b);
#pragma unroll
      for (int i = 0; i < 4; i++) sums[i][j] += c[i];
    }
  }
}
