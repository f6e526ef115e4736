// Learned values behind the features of every sample: y = [x, values] is linear, its tangents are the same maps.
#pragma once
#include "elementwise.cuh"

template <typename T>
struct Append {
  Batched<const T> x, values, dy;  // (N, I), (V,), (N, I + V); or their tangents, of which x may be absent: zero
  Batched<T> result;               // y, dx or dvalues
  Batched<const T> mask;           // x, where dx passes only if it is positive
  int samples, inputs, outputs;
};

template <typename T>
DEVICE void append(const Append<T>& job, long long task, int block, T*) {
  const int i = place_of(block), o = job.outputs;
  if (i >= job.samples * o) return;
  const int n = i / o, j = i - n * o;
  T value = T(0);
  if (j >= job.inputs) value = job.values.of(task)[j - job.inputs];
  else if (job.x.data != nullptr) value = job.x.of(task)[n * job.inputs + j];
  job.result.of(task)[i] = value;
}

// dx = dy before the values.
template <typename T>
DEVICE void append_backward(const Append<T>& job, long long task, int block, T*) {
  const int i = place_of(block), c = job.inputs;
  if (i >= job.samples * c) return;
  const int n = i / c;
  job.result.of(task)[i] = passed(job.dy.of(task)[n * job.outputs + i - n * c], job.mask.of(task), i);
}

// dvalues = sum over samples of dy behind x; a block is one of the values.
template <typename T>
DEVICE void append_gradient(const Append<T>& job, long long task, int block, T* scratch) {
  const T* dy = job.dy.of(task) + job.inputs + block;
  T sum[1] = {T(0)};
  for (int n = threadIdx.x; n < job.samples; n += ELEMENTWISE_THREADS) sum[0] += dy[n * job.outputs];
  sum_over_rows<T, 1, ELEMENTWISE_THREADS>(sum, scratch);
  if (threadIdx.x == 0) job.result.of(task)[block] = sum[0];
}
