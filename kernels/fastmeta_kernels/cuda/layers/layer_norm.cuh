// Layer norm: a block owns a sample of a task, or, for the gradients of scale and shift, some channels of it.
//
// <.> is the mean over a sample; see kernels/mathematics.md.
#pragma once
#include "../machine/base.cuh"

constexpr int SAMPLE_THREADS = 256, SCALE_WIDTH = 16, SCALE_ROWS = 16;

template <typename T>
struct LayerNorm {
  Batched<const T> x, x_dot, dy, dy_dot;
  Batched<const T> scale, shift, scale_dot, shift_dot;
  Batched<T> result;          // y, dx, y_dot or dx_dot
  Batched<T> dscale, dshift;  // or their tangents
  Batched<T> statistics;      // (2, N): <x> and r
  Batched<T> tangents;        // (2, N): <x_dot> and <x_hat x_dot>
  Batched<const T> mask;      // x, where dx passes only if it is positive
  int samples, pixels, channels;
  double epsilon;
  DEVICE int size() const { return pixels * channels; }
};

// One sample's values, normalised.
template <typename T>
struct Normalised {
  const T *x, *x_dot;
  T mean, r, mean_dot, along;
  DEVICE Normalised(const LayerNorm<T>& job, long long task, int sample) {
    const long long start = static_cast<long long>(sample) * job.size();
    x = job.x.of(task) + start;
    x_dot = job.x_dot.data == nullptr ? nullptr : job.x_dot.of(task) + start;
    const T* statistics = job.statistics.of(task);
    mean = statistics[sample];
    r = statistics[job.samples + sample];
    mean_dot = along = T(0);
    if (job.tangents.data != nullptr) {
      mean_dot = job.tangents.of(task)[sample];
      along = job.tangents.of(task)[job.samples + sample];
    }
  }
  DEVICE T hat(int i) const { return (x[i] - mean) * r; }
  DEVICE T hat_dot(int i) const { return x_dot == nullptr ? T(0) : r * (x_dot[i] - mean_dot - hat(i) * along); }
};

// y = scale x_hat + shift.
template <typename T>
DEVICE void layer_norm(const LayerNorm<T>& job, long long task, int sample, T* scratch) {
  const long long start = static_cast<long long>(sample) * job.size();
  const T* x = job.x.of(task) + start;
  const T origin = x[0];  // a constant sample is its own mean to the last bit
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) sum[0] += x[i] - origin;
  sum_over_rows<T, 1, SAMPLE_THREADS>(sum, scratch);
  const T away = sum[0] / T(job.size());
  sum[0] = T(0);
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const T centred = (x[i] - origin) - away;
    sum[0] += centred * centred;
  }
  sum_over_rows<T, 1, SAMPLE_THREADS>(sum, scratch);
  sum[0] = sum[0] / T(job.size()) + T(job.epsilon);
  const T mean = origin + away, r = rsqrt(sum[0]) + (sum[0] - sum[0]);  // NaN: an overflow is no constant
  if (threadIdx.x == 0) {
    job.statistics.of(task)[sample] = mean;
    job.statistics.of(task)[job.samples + sample] = r;
  }
  const T *scale = job.scale.of(task), *shift = job.shift.of(task);
  T* y = job.result.of(task) + start;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const int c = i % job.channels;
    y[i] = scale[c] * ((x[i] - mean) * r) + shift[c];
  }
}

// dx = r (g - <g> - x_hat <x_hat g>) with g = scale dy.
template <typename T>
DEVICE void layer_norm_backward(const LayerNorm<T>& job, long long task, int sample, T* scratch) {
  const long long start = static_cast<long long>(sample) * job.size();
  const Normalised<T> at(job, task, sample);
  const T *dy = job.dy.of(task) + start, *scale = job.scale.of(task);
  T sums[2] = {};
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const T g = scale[i % job.channels] * dy[i];
    sums[0] += g;
    sums[1] += g * at.hat(i);
  }
  sum_over_rows<T, 1, SAMPLE_THREADS>(sums, scratch);
  const T mean_g = sums[0] / T(job.size()), mean_xg = sums[1] / T(job.size());
  const T* mask = job.mask.of(task);
  T* dx = job.result.of(task) + start;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const T value = at.r * (scale[i % job.channels] * dy[i] - mean_g - at.hat(i) * mean_xg);
    dx[i] = passed(value, mask, start + i);
  }
}

// y_dot = scale r (x_dot - <x_dot> - x_hat <x_hat x_dot>) + scale_dot x_hat + shift_dot.
template <typename T>
DEVICE void layer_norm_tangent(const LayerNorm<T>& job, long long task, int sample, T* scratch) {
  const long long start = static_cast<long long>(sample) * job.size();
  Normalised<T> at(job, task, sample);
  T sums[2] = {};
  if (at.x_dot != nullptr) {
#pragma unroll 1  // registers are scarce
    for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
      sums[0] += at.x_dot[i];
      sums[1] += at.x_dot[i] * at.hat(i);
    }
    sum_over_rows<T, 1, SAMPLE_THREADS>(sums, scratch);
  }
  at.mean_dot = sums[0] / T(job.size());
  at.along = sums[1] / T(job.size());
  __syncthreads();
  if (threadIdx.x == 0) {
    job.tangents.of(task)[sample] = at.mean_dot;
    job.tangents.of(task)[job.samples + sample] = at.along;
  }
  const T *scale = job.scale.of(task), *scale_dot = job.scale_dot.of(task), *shift_dot = job.shift_dot.of(task);
  T* y_dot = job.result.of(task) + start;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const int c = i % job.channels;
    y_dot[i] = scale[c] * at.hat_dot(i) + scale_dot[c] * at.hat(i) + shift_dot[c];
  }
}

// dx_dot = J g_dot - r <x_hat x_dot> J g - r (x_hat_dot <x_hat g> + x_hat <x_hat_dot g>), g_dot = scale_dot dy + scale dy_dot.
template <typename T>
DEVICE void layer_norm_backward_tangent(const LayerNorm<T>& job, long long task, int sample, T* scratch) {
  const long long start = static_cast<long long>(sample) * job.size();
  const Normalised<T> at(job, task, sample);
  const T *dy = job.dy.of(task) + start, *dy_dot = job.dy_dot.of(task) + start;
  const T *scale = job.scale.of(task), *scale_dot = job.scale_dot.of(task);
  T sums[4] = {};  // of g, x_hat g, g_dot, x_hat g_dot + x_hat_dot g
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const int c = i % job.channels;
    const T g = scale[c] * dy[i], g_dot = scale_dot[c] * dy[i] + scale[c] * dy_dot[i], x_hat = at.hat(i);
    sums[0] += g;
    sums[1] += x_hat * g;
    sums[2] += g_dot;
    sums[3] += x_hat * g_dot + at.hat_dot(i) * g;
  }
  sum_over_rows<T, 1, SAMPLE_THREADS>(sums, scratch);
  for (T& sum : sums) sum /= T(job.size());
  const T* mask = job.mask.of(task);
  T* dx_dot = job.result.of(task) + start;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.size(); i += SAMPLE_THREADS) {
    const int c = i % job.channels;
    const T g = scale[c] * dy[i], g_dot = scale_dot[c] * dy[i] + scale[c] * dy_dot[i], x_hat = at.hat(i);
    const T turned = g_dot - sums[2] - at.hat_dot(i) * sums[1] - x_hat * sums[3];
    const T still = g - sums[0] - x_hat * sums[1];
    dx_dot[i] = passed(at.r * (turned - at.r * at.along * still), mask, start + i);
  }
}

// dscale = sum dy x_hat, dshift = sum dy; or with dy_dot dscale_dot = sum (dy_dot x_hat + dy x_hat_dot), dshift_dot = sum dy_dot.
template <typename T>
DEVICE void layer_norm_gradient(const LayerNorm<T>& job, long long task, int block, T* scratch) {
  const int channel = block * SCALE_WIDTH + threadIdx.x % SCALE_WIDTH;
  const bool tangent = job.dy_dot.data != nullptr;
  T sums[2] = {};
#pragma unroll 1  // registers are scarce
  for (int sample = 0; sample < job.samples && channel < job.channels; sample++) {
    const Normalised<T> at(job, task, sample);
    const long long start = static_cast<long long>(sample) * job.size();
    const T* dy = job.dy.of(task) + start;
    const T* d = tangent ? job.dy_dot.of(task) + start : dy;
#pragma unroll 1  // registers are scarce
    for (int i = threadIdx.x / SCALE_WIDTH * job.channels + channel; i < job.size(); i += SCALE_ROWS * job.channels) {
      sums[0] += d[i];
      sums[1] += d[i] * at.hat(i);
      if (tangent) sums[1] += dy[i] * at.hat_dot(i);
    }
  }
  sum_over_rows<T, SCALE_WIDTH, SCALE_ROWS>(sums, scratch);
  if (channel < job.channels && threadIdx.x < SCALE_WIDTH) {
    job.dshift.of(task)[channel] = sums[0];
    job.dscale.of(task)[channel] = sums[1];
  }
}
