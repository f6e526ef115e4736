// What every kernel shares: arrays of a batch of tasks, division by a constant, sums in a fixed order.
#pragma once

#define DEVICE __device__ __forceinline__
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(T, name)                                  \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared)
#endif

// One array for each task, `stride` values apart; stride 0 is an array that all tasks share, data 0 none at all.
template <typename T>
struct Batched {
  T* data;
  long long stride;
  DEVICE T* of(long long task) const { return data + task * stride; }
};

// n / divisor for 0 <= n < 2^31 as a product and a shift (Granlund and Montgomery 1994).
struct Divisor {
  unsigned divisor;
  unsigned multiplier;
  unsigned shift;
  DEVICE int quotient(int n) const {
    return divisor == 1 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), multiplier) >> shift);
  }
  DEVICE int split(int n, int& remainder) const {
    const int q = quotient(n);
    remainder = n - q * static_cast<int>(divisor);
    return q;
  }
};

// ReLU passes NaN on.
template <typename T>
DEVICE T rectify(T x) {
  return x < T(0) ? T(0) : x;
}

// dx behind a fused ReLU: it passes where the rectified value x is positive. x 0: no ReLU there.
template <typename T>
DEVICE T passed(T dx, const T* x, long long at) {
  return x == nullptr || x[at] > T(0) ? dx : T(0);
}

// Sums of K values over the block's rows, for each of its WIDTH columns, in a fixed order. `scratch` holds
// K * WIDTH * ROWS values; ROWS is a power of two; thread = row * WIDTH + column.
template <typename T, int WIDTH, int ROWS, int K>
DEVICE void sum_over_rows(T (&values)[K], T* scratch) {
  const int thread = threadIdx.x, column = thread % WIDTH;
  for (int k = 0; k < K; k++) scratch[k * WIDTH * ROWS + thread] = values[k];
  for (int half = ROWS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half * WIDTH) {
      for (int k = 0; k < K; k++) {
        T* mine = scratch + k * WIDTH * ROWS + thread;
        *mine += mine[half * WIDTH];
      }
    }
  }
  __syncthreads();
  for (int k = 0; k < K; k++) values[k] = scratch[k * WIDTH * ROWS + column];
  __syncthreads();
}
