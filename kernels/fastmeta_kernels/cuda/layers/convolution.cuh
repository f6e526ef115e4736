// Linear and convolution layers as products over patches: a linear layer is a 1 x 1 convolution of a 1 x 1 image.
//
// A weight and the bias behind it are one matrix (kernel kernel C [+ 1], O): the bias is the weight of a last input
// that is always 1. So forward, its tangent, dW and its tangent need no case of their own for the bias:
//   y = [R(x) 1] [W; b]          y_dot = [R(x_dot) 0] [W; b] + [R(x) 1] [W_dot; b_dot]
//   [dW; db] = [R(x) 1]^T dy     [dW_dot; db_dot] = [R(x) 1]^T dy_dot + [R(x_dot) 0]^T dy
// dx is one product for each of the stride^2 residue classes of input places, over the taps that reach them.
#pragma once
#include "patches.cuh"

template <typename T>
struct Product {
  Batched<const T> x[2], weight[2], dy[2];  // the factors of each pair; one of the three is absent
  Batched<T> result;
  Batched<const T> mask;  // forward: y, and y_dot passes where it is positive; dx: x likewise
  Batched<T> partial;     // (splits, size of result) where there is more than one split
  int pairs;              // products that are added up
  int ones[2];            // what the bias is multiplied with in each
  int rows, columns, depth;
  int row_tiles, column_tiles, splits;
  int rectified;          // result = max(result, 0)
  Window window;
};

// Both products of a backward pass: the first `input_blocks` blocks of a task compute dx, the others dW and db.
template <typename T>
struct ProductPair {
  Product<T> dx, dw;
  int input_blocks;
};

// Which tile a block computes.
struct Tile {
  int row, column, split, group;
  template <typename T>
  DEVICE Tile(const Product<T>& job, int block, int rows, int columns) {
    const int tiles = job.row_tiles * job.column_tiles;
    const int tile = block % tiles;
    block /= tiles;
    split = block % job.splits;
    group = block / job.splits;
    row = tile / job.column_tiles * rows, column = tile % job.column_tiles * columns;
  }
};

// This block's share of the summed axis: whole stages of shared memory.
DEVICE void share_of(int depth, int split, int splits, int& from, int& to) {
  const int stages = (depth + PRODUCT_DEPTH - 1) / PRODUCT_DEPTH;
  const int share = (stages + splits - 1) / splits * PRODUCT_DEPTH;
  from = split * share < depth ? split * share : depth;
  to = from + share < depth ? from + share : depth;
}

// Writes this thread's sums to rows `target(row)` of the result, or of the split's part of it. Where they belong is
// worked out again: during the product registers are scarce.
template <int PRECISION, typename T, int ROWS, int COLUMNS, typename Target>
DEVICE void write(const Product<T>& job, long long task, int block, const T (&sums)[ROWS][COLUMNS], Target target) {
  const Tile tile(job, block, ROWS * PRODUCT_SIDE, COLUMNS * PRODUCT_SIDE);
  const long long size = static_cast<long long>(job.rows) * job.columns;
  const bool whole = job.splits == 1;
  T* result = whole ? job.result.of(task) : job.partial.of(task) + tile.split * size;
  const T* mask = job.mask.of(task);
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    const int row = target(tile.row + sum_row<PRECISION, ROWS, COLUMNS>(i));
    if (row < 0) continue;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      const int column = tile.column + sum_column<PRECISION, ROWS, COLUMNS>(i, j);
      if (column >= job.columns) continue;
      const long long at = static_cast<long long>(row) * job.columns + column;
      T value = sums[i][j];
      if (whole) value = passed(job.rectified ? rectify(value) : value, mask, at);
      result[at] = value;
    }
  }
}

// The sum of a job's products in this thread's registers. The factors are made anew for each pair, by `left(p)` and
// `right(p)`, as is the tile: during a product registers are scarce.
template <int PRECISION, typename T, int ROWS, int COLUMNS, typename Left, typename Right>
DEVICE void add_pairs(
    const Product<T>& job, int block, int depth, T (&sums)[ROWS][COLUMNS], Left left, Right right, T* shared) {
  for (int p = 0; p < job.pairs; p++) {
    const Tile tile(job, block, ROWS * PRODUCT_SIDE, COLUMNS * PRODUCT_SIDE);
    int from, to;
    share_of(depth, tile.split, job.splits, from, to);
    add_product<T, PRECISION, ROWS, COLUMNS>(sums, left(p), right(p), tile.row, tile.column, from, to, shared);
  }
}

// y or y_dot: (places, taps) x (taps, outputs).
template <typename T, int PRECISION, int ROWS, int COLUMNS>
DEVICE void convolve(const Product<T>& job, long long task, int block, T* shared) {
  const Window& g = job.window;
  T sums[ROWS][COLUMNS] = {};
  const auto left = [&](int p) {
    return PatchRows<T>{{job.x[p].of(task), g, job.rows, g.kernel * g.kernel * g.c, job.ones[p]}};
  };
  const auto right = [&](int p) { return Matrix<T>{job.weight[p].of(task), job.columns}; };
  add_pairs<PRECISION>(job, block, job.depth, sums, left, right, shared);
  write<PRECISION>(job, task, block, sums, [&](int row) { return row < job.rows ? row : -1; });
}

// dW and db, or their tangents: (taps, places) x (places, outputs).
template <typename T, int PRECISION, int ROWS, int COLUMNS>
DEVICE void weight_tile(const Product<T>& job, long long task, int block, T* shared) {
  const Window& g = job.window;
  T sums[ROWS][COLUMNS] = {};
  const auto left = [&](int p) {
    return PatchColumns<T>{{job.x[p].of(task), g, job.depth, g.kernel * g.kernel * g.c, job.ones[p]}};
  };
  const auto right = [&](int p) { return Matrix<T>{job.dy[p].of(task), job.columns}; };
  add_pairs<PRECISION>(job, block, job.depth, sums, left, right, shared);
  write<PRECISION>(job, task, block, sums, [&](int row) { return row < job.rows ? row : -1; });
}

// dx or dx_dot: (input places of a class, (taps, outputs)) x ((taps, outputs), inputs).
template <typename T, int PRECISION, int ROWS, int COLUMNS>
DEVICE void input_tile(const Product<T>& job, long long task, int block, T* shared) {
  const Window& g = job.window;
  T sums[ROWS][COLUMNS] = {};
  const ResidueClass of(g, Tile(job, block, 1, 1).group);
  const auto left = [&](int p) {
    const int places = job.rows / (g.h * g.w) * g.quarter_h * g.quarter_w;
    return ReachingOutputs<T>{job.dy[p].of(task), g, of, places};
  };
  const auto right = [&](int p) { return ReachingWeights<T>{job.weight[p].of(task), g, of}; };
  add_pairs<PRECISION>(job, block, of.depth(g), sums, left, right, shared);
  const ResidueClass target(g, Tile(job, block, 1, 1).group);
  const int outputs = job.rows / (g.h * g.w) * g.quarter_h * g.quarter_w;
  write<PRECISION>(job, task, block, sums, [&](int m) {
    if (m >= outputs) return -1;
    int pixel, column;
    const int sample = g.by_quarter_pixels.split(m, pixel);
    const int row = g.by_quarter_w.split(pixel, column);
    const int h = target.h + g.stride * row, w = target.w + g.stride * column;
    return h < g.h && w < g.w ? (sample * g.h + h) * g.w + w : -1;
  });
}

// dx and dW, db.
template <typename T, int PRECISION, int ROWS, int COLUMNS>
DEVICE void convolve_backward(const ProductPair<T>& job, long long task, int block, T* shared) {
  if (block < job.input_blocks) {
    input_tile<T, PRECISION, ROWS, COLUMNS>(job.dx, task, block, shared);
  } else {
    weight_tile<T, PRECISION, ROWS, COLUMNS>(job.dw, task, block - job.input_blocks, shared);
  }
}

// result = the splits' parts, added in order.
template <typename T>
DEVICE void add_splits(const Product<T>& job, long long task, int block, T*) {
  const long long at = static_cast<long long>(block) * PRODUCT_THREADS + threadIdx.x;
  const long long size = static_cast<long long>(job.rows) * job.columns;
  if (at >= size) return;
  const T* part = job.partial.of(task) + at;
  T sum = part[0];
  for (int split = 1; split < job.splits; split++) sum += part[split * size];
  job.result.of(task)[at] = passed(job.rectified ? rectify(sum) : sum, job.mask.of(task), at);
}
