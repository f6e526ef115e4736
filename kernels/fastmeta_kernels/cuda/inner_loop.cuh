// The inner step, the backward sweep's step, and means over tasks: everything in order of the flat theta.
#pragma once
#include "base.cuh"

constexpr int VECTOR_THREADS = 256, MEAN_WIDTH = 32, MEAN_ROWS = 32;

template <typename T>
struct Sweep {
  Batched<const T> phi, gradient, v, product;
  Batched<T> next_phi, next_v, direction;
  const T* rates;                // (rate_count,) of this step
  const long long* edges;        // (arrays + 1,) boundaries of the parameter arrays
  int parameters, start, stop;   // only [start, stop) moves
  int rate_count, arrays, blocks;
};

// alpha of parameter p: one rate for all, one for each array, or one for each parameter.
template <typename T>
DEVICE T rate_of(const Sweep<T>& job, int p) {
  if (job.rate_count == 1) return job.rates[0];
  if (job.rate_count == job.parameters) return job.rates[p];
  int low = 0, high = job.arrays;  // edges[low] <= p < edges[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (job.edges[middle] <= p) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return job.rates[low];
}

// phi_{k+1} = phi_k - m alpha_k grad L(phi_k).
template <typename T>
__global__ void __launch_bounds__(VECTOR_THREADS) descend(Sweep<T> job) {
  const long long task = blockIdx.x / job.blocks;
  const int p = blockIdx.x % job.blocks * VECTOR_THREADS + threadIdx.x;
  if (p >= job.parameters) return;
  T phi = job.phi.of(task)[p];
  if (job.start <= p && p < job.stop) phi -= rate_of(job, p) * job.gradient.of(task)[p];
  job.next_phi.of(task)[p] = phi;
}

// v_k = v_{k+1} - H u_k, where there is a product yet, and u = m alpha v, where there is another step.
template <typename T>
__global__ void __launch_bounds__(VECTOR_THREADS) sweep(Sweep<T> job) {
  const long long task = blockIdx.x / job.blocks;
  const int p = blockIdx.x % job.blocks * VECTOR_THREADS + threadIdx.x;
  if (p >= job.parameters) return;
  T v = job.v.of(task)[p];
  if (job.product.data != nullptr) {
    v -= job.product.of(task)[p];
    job.next_v.of(task)[p] = v;
  }
  if (job.direction.data != nullptr) {
    job.direction.of(task)[p] = job.start <= p && p < job.stop ? rate_of(job, p) * v : T(0);
  }
}

template <typename T>
struct TaskMean {
  Batched<const T> a, b;  // b may be absent
  T* result;              // (parameters,)
  const long long* edges; // (arrays + 1,)
  T* rates;               // (rate_count,)
  int terms, tasks, parameters, start, stop, rate_count;
  int adds;               // to rates that a later step has left
};

// result = sum over `terms` / tasks of a, or minus that of a b; 0 outside [start, stop).
template <typename T>
__global__ void __launch_bounds__(MEAN_WIDTH* MEAN_ROWS) mean_over_tasks(TaskMean<T> job) {
  __shared__ T scratch[MEAN_WIDTH * MEAN_ROWS];
  const int p = blockIdx.x * MEAN_WIDTH + threadIdx.x % MEAN_WIDTH;
  T sum[1] = {T(0)};
  if (job.start <= p && p < job.stop) {
    for (int task = threadIdx.x / MEAN_WIDTH; task < job.terms; task += MEAN_ROWS) {
      const T a = job.a.of(task)[p];
      sum[0] += job.b.data == nullptr ? a : -a * job.b.of(task)[p];
    }
  }
  sum_over_rows<T, MEAN_WIDTH, MEAN_ROWS>(sum, scratch);
  if (p < job.parameters && threadIdx.x < MEAN_WIDTH) job.result[p] = sum[0] / T(job.tasks);
}

// rates = result summed over what shares a rate: one block a rate. One of each parameter needs no sum.
template <typename T>
__global__ void __launch_bounds__(VECTOR_THREADS) share(TaskMean<T> job) {
  __shared__ T scratch[VECTOR_THREADS];
  const int rate = blockIdx.x;
  if (job.rate_count == job.parameters && job.parameters > 1) {
    const int p = rate * VECTOR_THREADS + threadIdx.x;
    if (p < job.parameters) job.rates[p] = job.result[p] + (job.adds ? job.rates[p] : T(0));
    return;
  }
  const int first = job.rate_count == 1 ? 0 : static_cast<int>(job.edges[rate]);
  const int last = job.rate_count == 1 ? job.parameters : static_cast<int>(job.edges[rate + 1]);
  T sum[1] = {T(0)};
  for (int p = first + threadIdx.x; p < last; p += VECTOR_THREADS) sum[0] += job.result[p];
  sum_over_rows<T, 1, VECTOR_THREADS>(sum, scratch);
  if (threadIdx.x == 0) job.rates[rate] = sum[0] + (job.adds ? job.rates[rate] : T(0));
}
