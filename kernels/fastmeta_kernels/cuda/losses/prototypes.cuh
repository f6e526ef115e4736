// Prototypical networks: class means, similarities of queries to them, and both gradients (arXiv 1703.05175).
//
// Between `prototype_logits` and the two gradients stands `cross_entropy`, which leaves dz. One block of a task is one
// class or one query; its threads share the D values of an embedding.
//   euclidean: z = -|q - c|^2        dq = 2 sum_k dz (c - q)               dc = 2 sum_m dz (q - c)
//   cosine:    z = scale u . v       du = scale sum_k dz v                 dv = scale sum_m dz u
//              u = q / |q|           dq = (du - u (u . du)) / |q|          dc likewise, v = c / |c|
#pragma once
#include "../machine/base.cuh"

constexpr int PROTOTYPE_THREADS = 128, PROTOTYPE_LANES = 8;

template <typename T>
struct Prototype {
  Batched<const T> support, query, dz;        // (N, D), (M, D), (M, K)
  Batched<const long long> labels;            // (N,) of the support samples
  Batched<T> centres, d_centres;              // (K, D)
  Batched<T> inverse_centres, inverse_queries;  // (K,), (M,): 1 / |.|
  Batched<T> logits, d_support, d_query;      // (M, K), (N, D), (M, D)
  int samples, queries, ways, width, cosine;
  double scale, tiny;                         // the smallest normal number
};

template <typename T>
DEVICE T block_sum(T value, T* scratch) {
  T sum[1] = {value};
  sum_over_rows<T, 1, PROTOTYPE_THREADS>(sum, scratch);
  return sum[0];
}

// 1 / |x|, 0 where |x|^2 is below the smallest normal number; inf / inf is NaN, and seen.
template <typename T>
DEVICE T inverse_norm(const T* x, int width, double tiny, T* scratch) {
  T squares = T(0);
  for (int d = threadIdx.x; d < width; d += PROTOTYPE_THREADS) squares += x[d] * x[d];
  squares = block_sum(squares, scratch);
  return squares < T(tiny) ? T(0) : rsqrt(squares) + (squares - squares);
}

// c = mean of a class's support embeddings, and 1 / |c|. A block is a class.
template <typename T>
__global__ void __launch_bounds__(PROTOTYPE_THREADS) prototype_centres(Prototype<T> job) {
  __shared__ T scratch[PROTOTYPE_THREADS];
  const long long task = blockIdx.x / job.ways;
  const int k = blockIdx.x % job.ways;
  const T* support = job.support.of(task);
  const long long* labels = job.labels.of(task);
  T* c = job.centres.of(task) + static_cast<long long>(k) * job.width;
  int count = 0;
  for (int n = 0; n < job.samples; n++) count += labels[n] == k;
  for (int d = threadIdx.x; d < job.width; d += PROTOTYPE_THREADS) {
    T sum = T(0);
    for (int n = 0; n < job.samples; n++) {
      if (labels[n] == k) sum += support[static_cast<long long>(n) * job.width + d];
    }
    c[d] = sum / T(count);
  }
  if (!job.cosine) return;
  const T inverse = inverse_norm(c, job.width, job.tiny, scratch);
  if (threadIdx.x == 0) job.inverse_centres.of(task)[k] = inverse;
}

// z of one query: PROTOTYPE_LANES threads share a class. A block is a query.
template <typename T>
__global__ void __launch_bounds__(PROTOTYPE_THREADS) prototype_logits(Prototype<T> job) {
  __shared__ T scratch[PROTOTYPE_THREADS];
  const long long task = blockIdx.x / job.queries;
  const int m = blockIdx.x % job.queries, lane = threadIdx.x % PROTOTYPE_LANES, row = threadIdx.x / PROTOTYPE_LANES;
  constexpr int ROWS = PROTOTYPE_THREADS / PROTOTYPE_LANES;
  const T* q = job.query.of(task) + static_cast<long long>(m) * job.width;
  T inverse = T(1);
  if (job.cosine) {
    inverse = inverse_norm(q, job.width, job.tiny, scratch);
    if (threadIdx.x == 0) job.inverse_queries.of(task)[m] = inverse;
  }
  for (int first = 0; first < job.ways; first += ROWS) {
    const int k = first + row;
    const T* c = job.centres.of(task) + static_cast<long long>(k) * job.width;
    T sum = T(0);
    for (int d = lane; d < job.width && k < job.ways; d += PROTOTYPE_LANES) {
      const T gap = q[d] - c[d];
      sum += job.cosine ? q[d] * c[d] : -gap * gap;
    }
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (lane == 0 && k < job.ways) {
      for (int l = 1; l < PROTOTYPE_LANES; l++) sum += scratch[threadIdx.x + l];
      if (job.cosine) sum *= T(job.scale) * inverse * job.inverse_centres.of(task)[k];
      job.logits.of(task)[static_cast<long long>(m) * job.ways + k] = sum;
    }
    __syncthreads();
  }
}

// The gradient of one vector x among `count` others y with weights dz: the same for a query and for a centre.
template <typename T>
DEVICE void similarity_gradient(const Prototype<T>& job, const T* x, T inverse, const T* y, const T* inverses,
                                const T* dz, int step, int count, T* dx, T* scratch) {
  T along = T(0);
  for (int d = threadIdx.x; d < job.width; d += PROTOTYPE_THREADS) {
    T sum = T(0);
    for (int j = 0; j < count; j++) {
      const T other = y[static_cast<long long>(j) * job.width + d], weight = dz[static_cast<long long>(j) * step];
      sum += job.cosine ? weight * inverses[j] * other : T(2) * weight * (other - x[d]);
    }
    if (job.cosine) sum *= T(job.scale);
    dx[d] = sum;
    along += sum * x[d];
  }
  if (!job.cosine) return;
  along = block_sum(along, scratch) * inverse;
  for (int d = threadIdx.x; d < job.width; d += PROTOTYPE_THREADS) dx[d] = inverse * (dx[d] - along * inverse * x[d]);
}

// d_query: a block is a query.
template <typename T>
__global__ void __launch_bounds__(PROTOTYPE_THREADS) prototype_query_gradient(Prototype<T> job) {
  __shared__ T scratch[PROTOTYPE_THREADS];
  const long long task = blockIdx.x / job.queries;
  const int m = blockIdx.x % job.queries;
  const long long at = static_cast<long long>(m) * job.width;
  similarity_gradient(job, job.query.of(task) + at, job.cosine ? job.inverse_queries.of(task)[m] : T(1),
                      job.centres.of(task), job.inverse_centres.of(task),
                      job.dz.of(task) + static_cast<long long>(m) * job.ways, 1, job.ways, job.d_query.of(task) + at,
                      scratch);
}

// d_support: a block is a class; each of its samples gets its share of dc.
template <typename T>
__global__ void __launch_bounds__(PROTOTYPE_THREADS) prototype_support_gradient(Prototype<T> job) {
  __shared__ T scratch[PROTOTYPE_THREADS];
  const long long task = blockIdx.x / job.ways;
  const int k = blockIdx.x % job.ways;
  const long long at = static_cast<long long>(k) * job.width;
  const long long* labels = job.labels.of(task);
  T* dc = job.d_centres.of(task) + at;
  similarity_gradient(job, job.centres.of(task) + at, job.cosine ? job.inverse_centres.of(task)[k] : T(1),
                      job.query.of(task), job.inverse_queries.of(task), job.dz.of(task) + k, job.ways, job.queries, dc,
                      scratch);
  int count = 0;
  for (int n = 0; n < job.samples; n++) count += labels[n] == k;
  for (int n = 0; n < job.samples; n++) {
    if (labels[n] != k) continue;
    T* d_support = job.d_support.of(task) + static_cast<long long>(n) * job.width;
    for (int d = threadIdx.x; d < job.width; d += PROTOTYPE_THREADS) d_support[d] = dc[d] / T(count);
  }
}
