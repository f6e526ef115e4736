// C = sum_p A_p B_p in tiles: operands go through shared memory, each of 256 threads keeps ROWS x COLUMNS sums.
// How they are added up is the precision; see tensor_core.cuh for all but FP32.
//
// An operand is a source with `outer(i)` for a row of A or column of B, `inner(k)` for a place on the summed axis, and
// `at(outer, inner)` for the value, 0 outside. OUTER_RUNS says which index neighbours in memory.
#pragma once
#include "tensor_core.cuh"

constexpr int PRODUCT_THREADS = 256;
constexpr int PRODUCT_SIDE = 16;   // threads along either side of a tile
constexpr int PRODUCT_DEPTH = 16;  // summed places in shared memory at a time
constexpr int PRODUCT_PAD = 8;     // keeps rows 16-byte aligned and out of each other's banks

// Brings COUNT values a thread from a source to shared memory, by way of registers.
template <typename T, int COUNT, typename Source>
struct Stage {
  static constexpr int EXTENT = COUNT * PRODUCT_SIDE;
  static constexpr int HELD = Source::OUTER_RUNS ? 1 : COUNT;
  typename Source::Outer outer[HELD];
  T values[COUNT];

  DEVICE void start(const Source& source, int first) {
    for (int i = 0; i < HELD; i++) outer[i] = source.outer(first + outer_index(i));
  }
  DEVICE void fetch(const Source& source, int from, int to) {
    if constexpr (Source::OUTER_RUNS) {
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        const int k = from + inner_index(i);
        values[i] = k < to ? source.at(outer[0], source.inner(k)) : T(0);
      }
    } else {
      const int k = from + inner_index(0);
      const auto inner = source.inner(k);
#pragma unroll
      for (int i = 0; i < COUNT; i++) values[i] = k < to ? source.at(outer[i], inner) : T(0);
    }
  }
  DEVICE void store(T* tile) const {
#pragma unroll
    for (int i = 0; i < COUNT; i++) tile[inner_index(i) * (EXTENT + PRODUCT_PAD) + outer_index(i)] = values[i];
  }
  DEVICE static int outer_index(int i) {
    const int thread = threadIdx.x;
    return Source::OUTER_RUNS ? thread % EXTENT : thread / PRODUCT_DEPTH + i * PRODUCT_SIDE;
  }
  DEVICE static int inner_index(int i) {
    const int thread = threadIdx.x;
    return Source::OUTER_RUNS ? thread / EXTENT + i * (PRODUCT_THREADS / EXTENT) : thread % PRODUCT_DEPTH;
  }
};

// Values of shared memory that a tile of ROWS x COLUMNS sums a thread needs.
template <int ROWS, int COLUMNS>
constexpr int tile_values = PRODUCT_DEPTH * ((ROWS + COLUMNS) * PRODUCT_SIDE + 2 * PRODUCT_PAD);

// Adds the product of two tiles in shared memory.
template <typename T, int ROWS, int COLUMNS>
DEVICE void add_stage(T (&sums)[ROWS][COLUMNS], const T* left, const T* right) {
  constexpr int LEFT_ROW = ROWS * PRODUCT_SIDE + PRODUCT_PAD, RIGHT_ROW = COLUMNS * PRODUCT_SIDE + PRODUCT_PAD;
  const int y = threadIdx.x / PRODUCT_SIDE, x = threadIdx.x % PRODUCT_SIDE;
#pragma unroll
  for (int d = 0; d < PRODUCT_DEPTH; d++) {
    T a[ROWS], b[COLUMNS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) a[i] = left[d * LEFT_ROW + y * ROWS + i];
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) b[j] = right[d * RIGHT_ROW + x * COLUMNS + j];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) sums[i][j] += a[i] * b[j];
    }
  }
}

// The row and column in the tile of this thread's sums[i][j].
template <int PRECISION, int ROWS, int COLUMNS>
DEVICE int sum_row(int i) {
  if constexpr (PRECISION != FP32) return warp_row() + tensor_row(i);
  return threadIdx.x / PRODUCT_SIDE * ROWS + i;
}
template <int PRECISION, int ROWS, int COLUMNS>
DEVICE int sum_column(int i, int j) {
  if constexpr (PRECISION != FP32) return warp_column<COLUMNS>() + 8 * j + tensor_column(i);
  return threadIdx.x % PRODUCT_SIDE * COLUMNS + j;
}

// Adds A B over the summed places [from, to) to this thread's sums of the tile at (row, column).
template <typename T, int PRECISION, int ROWS, int COLUMNS, typename Left, typename Right>
DEVICE void add_product(T (&sums)[ROWS][COLUMNS], const Left& left, const Right& right, int row, int column, int from,
                        int to, T* shared) {
  constexpr int LEFT_ROW = ROWS * PRODUCT_SIDE + PRODUCT_PAD, RIGHT_ROW = COLUMNS * PRODUCT_SIDE + PRODUCT_PAD;
  T* left_tile = shared;
  T* right_tile = shared + PRODUCT_DEPTH * LEFT_ROW;
  Stage<T, ROWS, Left> left_stage;
  Stage<T, COLUMNS, Right> right_stage;
  left_stage.start(left, row);
  right_stage.start(right, column);
  left_stage.fetch(left, from, to);
  right_stage.fetch(right, from, to);
  for (int k = from; k < to; k += PRODUCT_DEPTH) {
    left_stage.store(left_tile);
    right_stage.store(right_tile);
    __syncthreads();
    if (k + PRODUCT_DEPTH < to) {
      left_stage.fetch(left, k + PRODUCT_DEPTH, to);
      right_stage.fetch(right, k + PRODUCT_DEPTH, to);
    }
    if constexpr (PRECISION == FP32) {
      add_stage<T, ROWS, COLUMNS>(sums, left_tile, right_tile);
    } else {
      add_tensor_stage<PRECISION, COLUMNS, PRODUCT_DEPTH>(sums, left_tile, LEFT_ROW, right_tile, RIGHT_ROW);
    }
    __syncthreads();
  }
}
