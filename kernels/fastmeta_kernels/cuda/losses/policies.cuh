// Losses of policies, with advantages as weights: outputs z are O logits, or A means and A log deviations.
//
//   L = 1/N sum w psi(l), l = log pi(y; z)      psi = -l, or -rho = -exp(l - l0), or -rho while it counts (clip)
//   dz = w psi' g / N, g = d l / d z            dz_dot = psi''/psi' (g . z_dot) dz + w psi' g_dot / N
// or the mean KL(old || new), whose targets are old outputs. One block of a task, one thread a sample at a time.
#pragma once
#include "losses.cuh"

enum Surrogate { SURROGATE_LOG, SURROGATE_RATIO, SURROGATE_CLIP, SURROGATE_KL };  // as in layer_table.py
constexpr double HALF_LOG_2_PI = 0.91893853320467274178;

template <typename T>
struct PolicyLoss {
  Batched<const T> z, z_dot, targets, weights;  // (N, O), (N, O), (N, A) actions or (N, O) old outputs, (N,)
  Batched<const T> log_probs, slopes;           // (N,) l0; (N, O) dz, where its tangent is computed
  Batched<const long long> labels;              // (N,)
  Batched<T> loss;                              // (1,)
  Batched<T> dz;                                // (N, O), or its tangent; may be absent
  int samples, outputs, surrogate;
  double share, constant;                       // 1 / N; where ratios stop to count
  const T* factor;                              // of losses and deltas, but for tangents; may be absent
  int adds;                                     // to the loss that is there
};

// rho, 1 where nobody asks.
template <typename T>
DEVICE T ratio(const PolicyLoss<T>& job, long long task, int n, T l) {
  return job.surrogate == SURROGATE_LOG ? T(1) : exp(l - job.log_probs.of(task)[n]);
}

template <typename T>
DEVICE T psi(const PolicyLoss<T>& job, T l, T rho, T w) {
  if (job.surrogate == SURROGATE_LOG) return -l;
  const T clip = T(job.constant);
  if (job.surrogate == SURROGATE_CLIP && w > T(0) && rho > T(1) + clip) return -(T(1) + clip);
  if (job.surrogate == SURROGATE_CLIP && !(w > T(0)) && rho < T(1) - clip) return -(T(1) - clip);
  return -rho;
}

template <typename T>
DEVICE T psi_slope(const PolicyLoss<T>& job, T rho, T w) {
  if (job.surrogate == SURROGATE_LOG) return T(-1);
  const T clip = T(job.constant);
  const bool counts = (w > T(0) && rho < T(1) + clip) || (w < T(0) && rho > T(1) - clip);
  return counts || job.surrogate == SURROGATE_RATIO ? -rho : T(0);
}

// One action of a Gaussian: e = (y - mu) exp(-s), with g = (e exp(-s), e^2 - 1).
template <typename T>
struct Standard {
  T inverse, e;
  DEVICE Standard(T mu, T s, T y) {
    inverse = exp(-s);
    e = (y - mu) * inverse;
  }
};

// l = sum_a -s - e^2 / 2 - log(2 pi) / 2.
template <typename T>
DEVICE T gaussian_log_prob(const T* z, const T* y, int a) {
  T l = T(0);
#pragma unroll 1  // exp is long
  for (int j = 0; j < a; j++) {
    const Standard<T> of(z[j], z[a + j], y[j]);
    l -= z[a + j] + of.e * of.e / T(2) + T(HALF_LOG_2_PI);
  }
  return l;
}

template <typename T>
DEVICE void gaussian_loss(const PolicyLoss<T>& job, long long task, int, T* scratch) {
  const int a = job.outputs / 2;
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *y = job.targets.of(task) + row / 2;
    const T w = weight_of(job, task, n), l = gaussian_log_prob(z, y, a), rho = ratio(job, task, n, l);
    sum[0] += w * psi(job, l, rho, w);
    if (job.dz.data == nullptr) continue;
    const T slope = w * psi_slope(job, rho, w);
#pragma unroll 1  // exp is long
    for (int j = 0; j < a; j++) {
      const Standard<T> of(z[j], z[a + j], y[j]);
      job.dz.of(task)[row + j] = slope * of.e * of.inverse;
      job.dz.of(task)[row + a + j] = slope * (of.e * of.e - T(1));
    }
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

template <typename T>
DEVICE void gaussian_loss_tangent(const PolicyLoss<T>& job, long long task, int, T*) {
  const int a = job.outputs / 2;
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *z_dot = job.z_dot.of(task) + row, *y = job.targets.of(task) + row / 2;
    const T w = weight_of(job, task, n), rho = ratio(job, task, n, gaussian_log_prob(z, y, a));
    const T slope = w * psi_slope(job, rho, w);
    T along = T(0);
#pragma unroll 1  // exp is long
    for (int j = 0; j < a && job.surrogate != SURROGATE_LOG; j++) {
      const Standard<T> of(z[j], z[a + j], y[j]);
      along += of.e * of.inverse * z_dot[j] + (of.e * of.e - T(1)) * z_dot[a + j];
    }
#pragma unroll 1  // exp is long
    for (int j = 0; j < a; j++) {
      const Standard<T> of(z[j], z[a + j], y[j]);
      const T e_dot = -of.inverse * z_dot[j] - of.e * z_dot[a + j];
      const T *dz = job.slopes.of(task) + row + j;
      T* to = job.dz.of(task) + row + j;
      to[0] = along * dz[0] + slope * of.inverse * (e_dot - of.e * z_dot[a + j]);
      to[a] = along * dz[a] + slope * T(2) * of.e * e_dot;
    }
  }
}

// KL(old || new) = sum_a s - s0 + (exp(2 s0 - 2 s) + e^2 - 1) / 2, e = (mu - mu0) exp(-s), and dz = w KL' / N.
template <typename T>
DEVICE void gaussian_divergence(const PolicyLoss<T>& job, long long task, int, T* scratch) {
  const int a = job.outputs / 2;
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.samples * a; i += LOSS_THREADS) {
    const int n = i / a;
    const long long mu = static_cast<long long>(n) * a + i, s = mu + a;
    const T *z = job.z.of(task), *old = job.targets.of(task);
    const Standard<T> of(old[mu], z[s], z[mu]);
    const T w = weight_of(job, task, n), spread = exp(T(2) * (old[s] - z[s]));
    sum[0] += w * (z[s] - old[s] + (spread + of.e * of.e - T(1)) / T(2));
    if (job.dz.data == nullptr) continue;
    job.dz.of(task)[mu] = w * of.e * of.inverse;
    job.dz.of(task)[s] = w * (T(1) - spread - of.e * of.e);
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

template <typename T>
DEVICE void gaussian_divergence_tangent(const PolicyLoss<T>& job, long long task, int, T*) {
  const int a = job.outputs / 2;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.samples * a; i += LOSS_THREADS) {
    const int n = i / a;
    const long long mu = static_cast<long long>(n) * a + i, s = mu + a;
    const T *z = job.z.of(task), *z_dot = job.z_dot.of(task), *old = job.targets.of(task);
    const Standard<T> of(old[mu], z[s], z[mu]);
    const T w = weight_of(job, task, n), spread = exp(T(2) * (old[s] - z[s])), by_mu = of.inverse * z_dot[mu];
    job.dz.of(task)[mu] = w * of.inverse * (by_mu - T(2) * of.e * z_dot[s]);
    job.dz.of(task)[s] = w * T(2) * ((spread + of.e * of.e) * z_dot[s] - of.e * by_mu);
  }
}

// dz = w M z_dot / N, M = diag(exp(-2 s), 2) the Hessian of the KL at its own outputs.
template <typename T>
DEVICE void gaussian_metric(const PolicyLoss<T>& job, long long task, int, T*) {
  const int a = job.outputs / 2;
#pragma unroll 1  // registers are scarce
  for (int i = threadIdx.x; i < job.samples * a; i += LOSS_THREADS) {
    const int n = i / a;
    const long long mu = static_cast<long long>(n) * a + i, s = mu + a;
    const T w = weight_of(job, task, n);
    job.dz.of(task)[mu] = w * exp(T(-2) * job.z.of(task)[s]) * job.z_dot.of(task)[mu];
    job.dz.of(task)[s] = w * T(2) * job.z_dot.of(task)[s];
  }
}

template <typename T>
DEVICE void categorical_loss(const PolicyLoss<T>& job, long long task, int, T* scratch) {
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T* z = job.z.of(task) + row;
    const Softmax<T> p(z, job.outputs);
    const int label = static_cast<int>(job.labels.of(task)[n]);
    const T w = weight_of(job, task, n), l = p.log_of(z[label]), rho = ratio(job, task, n, l);
    sum[0] += w * psi(job, l, rho, w);
    if (job.dz.data == nullptr) continue;
    const T slope = w * psi_slope(job, rho, w);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) job.dz.of(task)[row + o] = slope * ((o == label ? T(1) : T(0)) - p(z[o]));
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

// g_dot = -p (z_dot - p . z_dot).
template <typename T>
DEVICE void categorical_loss_tangent(const PolicyLoss<T>& job, long long task, int, T*) {
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *z_dot = job.z_dot.of(task) + row;
    const Softmax<T> p(z, job.outputs);
    const int label = static_cast<int>(job.labels.of(task)[n]);
    T mean = T(0);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) mean += p(z[o]) * z_dot[o];
    const T w = weight_of(job, task, n), slope = w * psi_slope(job, ratio(job, task, n, p.log_of(z[label])), w);
    const T along = job.surrogate == SURROGATE_LOG ? T(0) : z_dot[label] - mean;
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) {
      job.dz.of(task)[row + o] = along * job.slopes.of(task)[row + o] - slope * p(z[o]) * (z_dot[o] - mean);
    }
  }
}

// KL(old || new) = sum_o p0 (log p0 - log p), and dz = w (p - p0) / N.
template <typename T>
DEVICE void categorical_divergence(const PolicyLoss<T>& job, long long task, int, T* scratch) {
  T sum[1] = {T(0)};
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *old = job.targets.of(task) + row;
    const Softmax<T> p(z, job.outputs), before(old, job.outputs);
    const T w = weight_of(job, task, n);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) {
      const T l = p.log_of(z[o]), l0 = before.log_of(old[o]), p0 = exp(l0);
      sum[0] += w * p0 * (l0 - l);
      if (job.dz.data != nullptr) job.dz.of(task)[row + o] = w * (exp(l) - p0);
    }
  }
  sum_over_rows<T, 1, LOSS_THREADS>(sum, scratch);
  write_loss(job, task, sum[0]);
}

// dz = w p (z_dot - p . z_dot) / N: the Hessian of the KL, whatever the old logits were.
template <typename T>
DEVICE void categorical_metric(const PolicyLoss<T>& job, long long task, int, T*) {
#pragma unroll 1  // registers are scarce
  for (int n = threadIdx.x; n < job.samples; n += LOSS_THREADS) {
    const long long row = static_cast<long long>(n) * job.outputs;
    const T *z = job.z.of(task) + row, *z_dot = job.z_dot.of(task) + row;
    const Softmax<T> p(z, job.outputs);
    const T w = weight_of(job, task, n);
    T mean = T(0);
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) mean += p(z[o]) * z_dot[o];
#pragma unroll 1  // exp is long
    for (int o = 0; o < job.outputs; o++) job.dz.of(task)[row + o] = w * p(z[o]) * (z_dot[o] - mean);
  }
}
