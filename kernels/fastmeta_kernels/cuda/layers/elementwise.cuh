// Layers without parameters: activations, max-pool, mean over an image. One thread a value, or a window.
#pragma once
#include "../machine/base.cuh"

constexpr int ELEMENTWISE_THREADS = 256;
enum ActivationKind { ACTIVATION_RELU = 3, ACTIVATION_TANH = 4, ACTIVATION_SOFTPLUS = 5 };  // as in layer_table.py

template <typename T>
struct Elementwise {
  Batched<const T> x, x_dot, dy, dy_dot;
  Batched<T> result;
  Batched<const T> mask;  // x, where dx passes only if it is positive
  int samples, h, w, c, out_h, out_w, kernel;
};

DEVICE int place_of(int block) { return block * ELEMENTWISE_THREADS + static_cast<int>(threadIdx.x); }

template <typename T>
DEVICE T sigmoid(T x) {
  const T e = exp(x < T(0) ? x : -x);
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

template <typename T, int KIND>
DEVICE T activation(T x) {
  if constexpr (KIND == ACTIVATION_RELU) return rectify(x);
  if constexpr (KIND == ACTIVATION_TANH) return tanh(x);
  return (x > T(0) ? x : T(0)) + log1p(exp(x > T(0) ? -x : x));
}

template <typename T, int KIND>
DEVICE T slope(T x) {
  if constexpr (KIND == ACTIVATION_RELU) return x > T(0) ? T(1) : T(0);
  if constexpr (KIND == ACTIVATION_TANH) {
    const T y = tanh(x);
    return T(1) - y * y;
  }
  return sigmoid(x);
}

template <typename T, int KIND>
DEVICE T curvature(T x) {
  if constexpr (KIND == ACTIVATION_RELU) return T(0);
  if constexpr (KIND == ACTIVATION_TANH) {
    const T y = tanh(x);
    return T(-2) * y * (T(1) - y * y);
  }
  return sigmoid(x) * sigmoid(-x);
}

// y = f(x).
template <typename T, int KIND>
DEVICE void activate(const Elementwise<T>& job, long long task, int block, T*) {
  const int i = place_of(block);
  if (i >= job.samples * job.h * job.w * job.c) return;
  job.result.of(task)[i] = activation<T, KIND>(job.x.of(task)[i]);
}

// dx = f'(x) dy; the same for y_dot = f'(x) x_dot.
template <typename T, int KIND>
DEVICE void activate_slope(const Elementwise<T>& job, long long task, int block, T*) {
  const int i = place_of(block);
  if (i >= job.samples * job.h * job.w * job.c) return;
  const T value = slope<T, KIND>(job.x.of(task)[i]) * job.dy.of(task)[i];
  job.result.of(task)[i] = passed(value, job.mask.of(task), i);
}

// dx_dot = f''(x) x_dot dy + f'(x) dy_dot.
template <typename T, int KIND>
DEVICE void activate_backward_tangent(const Elementwise<T>& job, long long task, int block, T*) {
  const int i = place_of(block);
  if (i >= job.samples * job.h * job.w * job.c) return;
  const T x = job.x.of(task)[i];
  T value = slope<T, KIND>(x) * job.dy_dot.of(task)[i];
  if constexpr (KIND != ACTIVATION_RELU) value += curvature<T, KIND>(x) * job.x_dot.of(task)[i] * job.dy.of(task)[i];
  job.result.of(task)[i] = passed(value, job.mask.of(task), i);
}

// A window of the image: where it begins in x, and whether it is whole or in the remainder that pooling drops.
struct PoolWindow {
  int channel, row, column, sample;
  template <typename T>
  DEVICE PoolWindow(const Elementwise<T>& job, int place, int rows, int columns) {
    channel = place % job.c;
    place /= job.c;
    column = place % columns;
    place /= columns;
    row = place % rows;
    sample = place / rows;
  }
  template <typename T>
  DEVICE int at(const Elementwise<T>& job, int a, int b) const {
    const int y = row * job.kernel + a, x = column * job.kernel + b;
    return ((sample * job.h + y) * job.w + x) * job.c + channel;
  }
};

// The place in x of a window's largest value, the first of equals; a NaN is largest.
template <typename T>
DEVICE int winner(const Elementwise<T>& job, const T* x, const PoolWindow& window) {
  int best = window.at(job, 0, 0);
  for (int a = 0; a < job.kernel; a++) {
    for (int b = 0; b < job.kernel; b++) {
      const int at = window.at(job, a, b);
      if (x[at] > x[best] || (x[at] != x[at] && x[best] == x[best])) best = at;
    }
  }
  return best;
}

// y = max over whole windows, and y_dot = x_dot where the maximum is.
template <typename T>
DEVICE void max_pool(const Elementwise<T>& job, long long task, int block, T*) {
  const int i = place_of(block);
  if (i >= job.samples * job.out_h * job.out_w * job.c) return;
  const T *x = job.x.of(task), *x_dot = job.x_dot.of(task);
  const int best = winner(job, x, PoolWindow(job, i, job.out_h, job.out_w));
  job.result.of(task)[i] = x_dot == nullptr ? x[best] : x_dot[best];
}

// dx = dy where the maximum was, else 0; a thread writes a window, whole or not.
template <typename T>
DEVICE void max_pool_backward(const Elementwise<T>& job, long long task, int block, T*) {
  const int rows = (job.h + job.kernel - 1) / job.kernel, columns = (job.w + job.kernel - 1) / job.kernel;
  const int i = place_of(block);
  if (i >= job.samples * rows * columns * job.c) return;
  const PoolWindow window(job, i, rows, columns);
  const bool whole = window.row < job.out_h && window.column < job.out_w;
  const T *x = job.x.of(task), *mask = job.mask.of(task);
  T* dx = job.result.of(task);
  const int best = whole ? winner(job, x, window) : -1;
  const int out = ((window.sample * job.out_h + window.row) * job.out_w + window.column) * job.c + window.channel;
  for (int a = 0; a < job.kernel && window.row * job.kernel + a < job.h; a++) {
    for (int b = 0; b < job.kernel && window.column * job.kernel + b < job.w; b++) {
      const int at = window.at(job, a, b);
      dx[at] = at == best ? passed(job.dy.of(task)[out], mask, at) : T(0);
    }
  }
}

// y = mean of x over H, W.
template <typename T>
DEVICE void mean_pool(const Elementwise<T>& job, long long task, int block, T*) {
  const int i = place_of(block);
  if (i >= job.samples * job.c) return;
  const int pixels = job.h * job.w, channel = i % job.c;
  const T* x = job.x.of(task) + static_cast<long long>(i / job.c) * pixels * job.c + channel;
  T sum = T(0);
  for (int pixel = 0; pixel < pixels; pixel++) sum += x[pixel * job.c];
  job.result.of(task)[i] = sum / T(pixels);
}

// dx = dy / (H W).
template <typename T>
DEVICE void mean_pool_backward(const Elementwise<T>& job, long long task, int block, T*) {
  const int pixels = job.h * job.w;
  const int i = place_of(block);
  if (i >= job.samples * pixels * job.c) return;
  const int sample = i / (pixels * job.c), channel = i % job.c;
  const T value = job.dy.of(task)[sample * job.c + channel] / T(pixels);
  job.result.of(task)[i] = passed(value, job.mask.of(task), i);
}
