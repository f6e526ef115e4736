// Losses of a set and where its backward pass starts: one block of a task, one thread a sample at a time.
#pragma once
#include "../machine/base.cuh"

constexpr int LOSS_THREADS = 256;

template <typename T>
struct Loss {
  Batched<const T> z, z_dot, targets, weights;  // (N, O), (N, O), (N, O), (N,)
  Batched<const long long> labels;              // (N,)
  Batched<T> loss;                              // (1,)
  Batched<T> dz;                                // (N, O), or its tangent; may be absent
  int samples, outputs;
  double share;                                 // 1 / N, or 1 / (N O) where targets are like the outputs
  double constant;                              // of the loss's equation, if it has one
  const T* factor;                              // of losses and deltas, but for tangents; may be absent
  int adds;                                     // to the loss that is there
};

// softmax of one sample's outputs without overflow: p = exp(z - largest - log sum exp(z - largest)).
template <typename T>
struct Softmax {
  T largest, log_sum;
  DEVICE Softmax(const T* z, int outputs) {
    largest = z[0];
    for (int o = 1; o < outputs; o++) largest = z[o] > largest || z[o] != z[o] ? z[o] : largest;
    T sum = T(0);
    for (int o = 0; o < outputs; o++) sum += exp(z[o] - largest);
    log_sum = log(sum);
  }
  DEVICE T log_of(T z) const { return (z - largest) - log_sum; }
  DEVICE T operator()(T z) const { return exp(log_of(z)); }
};

template <typename T, template <typename> class AnyLoss>
DEVICE T weight_of(const AnyLoss<T>& job, long long task, int sample) {
  const T share = job.factor == nullptr ? T(job.share) : *job.factor * T(job.share);
  return job.weights.data == nullptr ? share : share * job.weights.of(task)[sample];
}

template <typename T, template <typename> class AnyLoss>
DEVICE void write_loss(const AnyLoss<T>& job, long long task, T loss) {
  T* at = job.loss.of(task);
  if (threadIdx.x == 0) *at = job.adds ? *at + loss : loss;
}

// L = 1/N sum w (log sum exp z - z_y), dz = w (p - e) / N.
template <typename T>
DEVICE void cross_entropy(const Loss<T>& job, long long task, int, T* scratch) {
  T sum[1] = {T(0)};
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const T* z = job.z.of(task) + static_cast<long long>(n) * job.outputs;
    const Softmax<T> p(z, job.outputs);
    const T w = weight_of(job, task, n);
    const int label = static_cast<int>(job.labels.of(task)[n]);
    sum[0] -= w * p.log_of(z[label]);
    if (job.dz.data == nullptr) continue;
    T* dz = job.dz.of(task) + static_cast<long long>(n) * job.outputs;
    for (int o = 0; o < job.outputs; o++) dz[o] = w * (p(z[o]) - (o == label ? T(1) : T(0)));
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

// dz_dot = w (p z_dot - p (p . z_dot)) / N.
template <typename T>
DEVICE void cross_entropy_tangent(const Loss<T>& job, long long task, int, T*) {
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *z_dot = job.z_dot.of(task) + row;
    const Softmax<T> p(z, job.outputs);
    T along = T(0);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) along += p(z[o]) * z_dot[o];
    const T w = weight_of(job, task, n);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) job.dz.of(task)[row + o] = w * p(z[o]) * (z_dot[o] - along);
  }
}

template <typename T>
struct SampleSlopes {
  Batched<const T> dz, z_dot;  // (N, O) without weights; the tangents of the outputs
  Batched<T> slopes;           // (N,)
  int samples, outputs;
  double share;                // 1 / T
  int adds;                    // to what a later step has left
};

// d Q / d weight_n = - sum over inner steps of dz_n . z_dot_n, the derivative of a sample's loss along m alpha v.
template <typename T>
DEVICE void sample_slopes(const SampleSlopes<T>& job, long long task, int, T*) {
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    T slope = T(0);
    for (int o = 0; o < job.outputs; o++) slope += job.dz.of(task)[row + o] * job.z_dot.of(task)[row + o];
    T* at = job.slopes.of(task) + n;
    *at = (job.adds ? *at : T(0)) - T(job.share) * slope;
  }
}

// L = 1/(N O) sum w (z - y)^2, dz = 2 w (z - y) / (N O).
template <typename T>
DEVICE void squared_error(const Loss<T>& job, long long task, int, T* scratch) {
  const int count = job.samples * job.outputs;
  T sum[1] = {T(0)};
  for (int i = threadIdx.x; i < count; i += LOSS_THREADS) {
    const T w = weight_of(job, task, i / job.outputs), gap = job.z.of(task)[i] - job.targets.of(task)[i];
    sum[0] += w * gap * gap;
    if (job.dz.data != nullptr) job.dz.of(task)[i] = T(2) * w * gap;
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

// dz_dot = 2 w z_dot / (N O).
template <typename T>
DEVICE void squared_error_tangent(const Loss<T>& job, long long task, int, T*) {
  const int count = job.samples * job.outputs;
  for (int i = threadIdx.x; i < count; i += LOSS_THREADS) {
    job.dz.of(task)[i] = T(2) * weight_of(job, task, i / job.outputs) * job.z_dot.of(task)[i];
  }
}

// L = 1/(N O) sum w h(z - y), h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); dz = w h' / (N O).
template <typename T>
DEVICE void huber(const Loss<T>& job, long long task, int, T* scratch) {
  const int count = job.samples * job.outputs;
  const T delta = T(job.constant);
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < count; i += LOSS_THREADS) {
    const T w = weight_of(job, task, i / job.outputs), gap = job.z.of(task)[i] - job.targets.of(task)[i];
    const T size = gap < T(0) ? -gap : gap;
    const bool inside = size <= delta;
    sum[0] += w * (inside ? gap * gap / T(2) : delta * (size - delta / T(2)));
    if (job.dz.data != nullptr) job.dz.of(task)[i] = w * (inside ? gap : gap < T(0) ? -delta : delta);
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

// dz_dot = w z_dot / (N O) where |z - y| <= delta, else 0.
template <typename T>
DEVICE void huber_tangent(const Loss<T>& job, long long task, int, T*) {
  const int count = job.samples * job.outputs;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < count; i += LOSS_THREADS) {
    const T gap = job.z.of(task)[i] - job.targets.of(task)[i];
    const bool inside = (gap < T(0) ? -gap : gap) <= T(job.constant);
    job.dz.of(task)[i] = inside ? weight_of(job, task, i / job.outputs) * job.z_dot.of(task)[i] : T(0);
  }
}
