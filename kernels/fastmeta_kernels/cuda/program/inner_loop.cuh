// The inner step, the backward sweep's step, and means over tasks: everything in order of the flat theta.
#pragma once
#include "../machine/base.cuh"

constexpr int VECTOR_THREADS = 256, MEAN_WIDTH = 32, MEAN_ROWS = 32;

template <typename T>
struct Sweep {
  Batched<const T> phi, gradient, v, product, outcome;
  Batched<T> next_phi, next_v, direction;
  Batched<T> own_v;              // (B,) v of the parameters that are the step's own
  Batched<T> along;              // (parameters,) d Q / d alpha, before it is summed over what shares a rate
  Batched<const T> theta;        // where the proximal term pulls
  Batched<T> to_theta;           // (parameters,) what that term hands to theta; absent in first order
  Batched<T> by_pulls;           // (2, parameters) d Q / d weight decay and / d proximal term, before they are summed
  const T* pulls;                // (2,) weight decay and proximal term; may be absent
  const T* own;                  // (B,) those parameters
  const long long* own_at;       // (arrays,) where an array begins in them, -1 where it is none of them; may be absent
  const T* rates;                // (rate_count,) of this step
  const long long* edges;        // (arrays + 1,) boundaries of the parameter arrays
  int parameters, start, stop;   // only [start, stop) moves
  int rate_count, arrays;
  int adds;                      // to what a later step has left in `along`
  int pulls_add;                 // the same of `to_theta` and `by_pulls`
  int last;                      // whether v_0 takes what is left in `to_theta`
};

// The array of parameter p: edges[low] <= p < edges[low + 1].
template <typename T>
DEVICE int array_of(const Sweep<T>& job, int p) {
  int low = 0, high = job.arrays;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (job.edges[middle] <= p) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// alpha of parameter p: one rate for all, one for each array, or one for each parameter.
template <typename T>
DEVICE T rate_of(const Sweep<T>& job, int p) {
  if (job.rate_count == 1) return job.rates[0];
  return job.rates[job.rate_count == job.parameters ? p : array_of(job, p)];
}

// The place of parameter p among those that are the step's own, -1 where it is none of them.
template <typename T>
DEVICE int own_place(const Sweep<T>& job, int p) {
  if (job.own_at == nullptr) return -1;
  const int array = array_of(job, p), at = static_cast<int>(job.own_at[array]);
  return at < 0 ? -1 : at + p - static_cast<int>(job.edges[array]);
}

// g_k = grad L(phi_k) + d phi_k + p (phi_k - theta).
template <typename T>
DEVICE T pulled(const Sweep<T>& job, long long task, int p) {
  const T gradient = job.gradient.of(task)[p];
  if (job.pulls == nullptr) return gradient;
  const T phi = job.phi.of(task)[p];
  return gradient + job.pulls[0] * phi + job.pulls[1] * (phi - job.theta.of(task)[p]);
}

// What u = m alpha v leaves to the gradients of weight decay, proximal term and theta.
template <typename T>
DEVICE void leave_pulls(const Sweep<T>& job, long long task, int p, T u) {
  T *decay = job.by_pulls.of(task) + p, *proximal = decay + job.parameters;
  const T phi = job.phi.of(task)[p], gap = phi - job.theta.of(task)[p];
  *decay = (job.pulls_add ? *decay : T(0)) - u * phi;
  *proximal = (job.pulls_add ? *proximal : T(0)) - u * gap;
  if (job.to_theta.data == nullptr) return;
  T* to_theta = job.to_theta.of(task) + p;
  *to_theta = (job.pulls_add ? *to_theta : T(0)) + job.pulls[1] * u;
}

// phi_{k+1} = phi_k - m alpha_k grad L(phi_k), or phi_k without a gradient, but for the parameters that are step k+1's.
template <typename T>
DEVICE void descend(const Sweep<T>& job, long long task, int block, T*) {
  const int p = block * VECTOR_THREADS + static_cast<int>(threadIdx.x);
  if (p >= job.parameters) return;
  T phi = job.phi.of(task)[p];
  const int own = own_place(job, p);
  if (own >= 0) {
    phi = job.own[own];
  } else if (job.gradient.data != nullptr && job.start <= p && p < job.stop) {
    phi -= rate_of(job, p) * pulled(job, task, p);
  }
  job.next_phi.of(task)[p] = phi;
}

// v_k = v_{k+1} - H u_k + w_k grad Q(phi_k), in which what is absent is 0; entries of parameters that are step k's own go
// to own_v and no further. For the step before, u_{k-1} = m alpha_{k-1} v_k and d Q / d alpha_{k-1} = - m grad L v_k.
template <typename T>
DEVICE void sweep(const Sweep<T>& job, long long task, int block, T*) {
  const int p = block * VECTOR_THREADS + static_cast<int>(threadIdx.x);
  if (p >= job.parameters) return;
  T v = job.v.data == nullptr ? T(0) : job.v.of(task)[p];
  if (job.product.data != nullptr) v -= job.product.of(task)[p];
  if (job.product.data != nullptr && job.pulls != nullptr) {
    v -= (job.pulls[0] + job.pulls[1]) * job.direction.of(task)[p];
  }
  if (job.outcome.data != nullptr) v += job.outcome.of(task)[p];
  const int own = own_place(job, p);
  if (own >= 0) {
    job.own_v.of(task)[own] = v;
    v = T(0);
  }
  job.next_v.of(task)[p] = job.last ? v + job.to_theta.of(task)[p] : v;
  if (job.last) return;
  const bool moves = job.start <= p && p < job.stop;
  if (job.direction.data != nullptr) job.direction.of(task)[p] = moves ? rate_of(job, p) * v : T(0);
  if (job.along.data != nullptr) {
    T* along = job.along.of(task) + p;
    if (job.pulls != nullptr) leave_pulls(job, task, p, moves ? rate_of(job, p) * v : T(0));
    *along = (job.adds ? *along : T(0)) - (moves ? pulled(job, task, p) * v : T(0));
  }
}

template <typename T>
struct TaskMean {
  Batched<const T> values;
  T* result;               // (places,)
  const long long* edges;  // (arrays + 1,)
  T* rates;                // (rows, rate_count)
  int terms, tasks, places, parameters, rate_count;
};

// result = sum of the values of `terms` / tasks.
template <typename T>
__global__ void __launch_bounds__(MEAN_WIDTH* MEAN_ROWS) mean_over_tasks(TaskMean<T> job) {
  __shared__ T scratch[MEAN_WIDTH * MEAN_ROWS];
  const int p = blockIdx.x * MEAN_WIDTH + threadIdx.x % MEAN_WIDTH;
  T sum[1] = {T(0)};
  if (p < job.places) {
    for (int task = threadIdx.x / MEAN_WIDTH; task < job.terms; task += MEAN_ROWS) sum[0] += job.values.of(task)[p];
  }
  sum_over_rows<T, MEAN_WIDTH, MEAN_ROWS>(sum, scratch);
  if (p < job.places && threadIdx.x < MEAN_WIDTH) job.result[p] = sum[0] / T(job.tasks);
}

// rates = result (rows, parameters) summed over what shares a rate: one block a rate.
template <typename T>
__global__ void __launch_bounds__(VECTOR_THREADS) share(TaskMean<T> job) {
  __shared__ T scratch[VECTOR_THREADS];
  const int row = blockIdx.x / job.rate_count, rate = blockIdx.x % job.rate_count;
  const int first = job.rate_count == 1 ? 0 : static_cast<int>(job.edges[rate]);
  const int last = job.rate_count == 1 ? job.parameters : static_cast<int>(job.edges[rate + 1]);
  const T* result = job.result + static_cast<long long>(row) * job.parameters;
  T sum[1] = {T(0)};
  for (int p = first + threadIdx.x; p < last; p += VECTOR_THREADS) sum[0] += result[p];
  sum_over_rows<T, 1, VECTOR_THREADS>(sum, scratch);
  if (threadIdx.x == 0) job.rates[blockIdx.x] = sum[0];
}
