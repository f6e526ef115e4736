// A whole inner loop, the query and the sweep back through it, for a small MLP in one launch: one block a task.
#pragma once
#include "passes.cuh"

// d Q / d alpha_k: this thread's part of the sum for a shared rate, or elementwise into the chunk's.
template <typename T>
struct MlpRates {
  const MlpBlock<T>& block;
  T* result;   // (1,) or (P,)
  bool first;  // nothing there yet to add to
  T sum;
  DEVICE void add(int l, int i, int o, T dw, T v) {
    const T value = block.moves(l, i, o) ? -(dw * v) : T(0);
    if (block.job.rate_count == 1) {
      sum += value;
    } else {
      T* at = result + block.place(l, i, o);
      *at = first ? value : *at + value;
    }
  }
  DEVICE void finish() {  // adds up the threads' sums, in order
    if (block.job.rate_count != 1) return;
    T* sums = block.shared + block.job.losses_at;
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      T total = first ? T(0) : *result;
      for (int t = 0; t < static_cast<int>(blockDim.x); t++) total += sums[t];
      *result = total;
    }
    __syncthreads();
  }
};

// Blocks are chunks; a chunk's tasks follow each other, and their gradients are added up in that order.
template <typename T>
__global__ void __launch_bounds__(MLP_THREADS) mlp_meta_gradient(Mlp<T> job) {
  DYNAMIC_SHARED(T, shared);
  const MlpBlock<T> block{job, shared};
  const long long chunk = blockIdx.x;
  T *phi = shared + job.phi_at, *v = shared + job.v_at, *direction = shared + job.direction_at;
  T* steps = job.steps_of_block + chunk * job.steps * job.padded;
  T* gradient = job.gradient + chunk * job.parameters;
  T* along = job.rates_gradient + chunk * job.rate_rows * (job.rate_count == 1 ? 1 : job.parameters);
  for (long long task = chunk; task < job.tasks; task += job.chunks) {
    const bool fresh = task == chunk, adapts_only = job.phi.data != nullptr;
    const MlpSet<T> support{job.x.of(task), job.targets.of(task), job.weights.of(task), job.labels.of(task), job.samples};
    const MlpSet<T> query{job.query_x.of(task), job.query_targets.of(task), job.query_weights.of(task),
                          job.query_labels.of(task), job.query_samples};
    const T* theta = job.theta.of(task);
    block.for_places([&](int l, int i, int o) { phi[block.padded_place(l, i, o)] = theta[block.place(l, i, o)]; });
    for (int k = 0; k < job.steps + !adapts_only; k++) {  // the inner steps, and the query
      const bool inner = k < job.steps;
      const MlpSet<T> set = inner ? support : query;
      const T* alpha = job.rates + k % job.rate_rows * job.rate_count;
      T* step = steps + static_cast<long long>(k) * job.padded;
      if (k == 0 || !inner) block.load(set, false);
      block.forward(set);
      mlp_loss(job, set, shared, inner ? job.support_losses.of(task) + k : job.query_losses.of(task));
      block.backward(set);
      block.template for_weights<false>(set, [&](int l, int i, int o, T dw, T) {
        const int at = block.padded_place(l, i, o);
        if (inner) {
          if (!adapts_only) step[at] = job.exact ? phi[at] : dw;
          if (block.moves(l, i, o)) phi[at] -= alpha[block.rate(l, i, o)] * dw;
        } else {
          v[at] = dw;
        }
      });
    }
    if (adapts_only) {
      T* result = job.phi.of(task);
      block.for_places([&](int l, int i, int o) { result[block.place(l, i, o)] = phi[block.padded_place(l, i, o)]; });
      continue;
    }
    if (job.exact && job.steps > 0) block.load(support, true);
    for (int k = job.steps - 1; k >= 0; k--) {
      const T* step = steps + static_cast<long long>(k) * job.padded;
      const int row = k % job.rate_rows;
      const T* alpha = job.rates + row * job.rate_count;
      T* along_row = along + static_cast<long long>(row) * (job.rate_count == 1 ? 1 : job.parameters);
      const bool first = fresh && (job.rate_rows > 1 || k == job.steps - 1);
      MlpRates<T> to_rates{block, along_row, first, T(0)};
      if (job.exact) {
        block.for_places([&](int l, int i, int o) {
          const int at = block.padded_place(l, i, o);
          phi[at] = step[at];
          direction[at] = block.moves(l, i, o) ? alpha[block.rate(l, i, o)] * v[at] : T(0);
        });
        block.forward(support);
        mlp_loss(job, support, shared, static_cast<T*>(nullptr));
        block.backward(support);
        block.forward_tangent(support);
        mlp_loss_tangent(job, support, shared);
        block.backward_tangent(support);
        block.template for_weights<true>(support, [&](int l, int i, int o, T dw, T dw_dot) {
          const int at = block.padded_place(l, i, o);
          to_rates.add(l, i, o, dw, v[at]);
          v[at] -= dw_dot;
        });
      } else {
        block.for_places([&](int l, int i, int o) {
          const int at = block.padded_place(l, i, o);
          to_rates.add(l, i, o, step[at], v[at]);
        });
      }
      to_rates.finish();
    }
    block.for_places([&](int l, int i, int o) {
      T* at = gradient + block.place(l, i, o);
      *at = v[block.padded_place(l, i, o)] + (fresh ? T(0) : *at);
    });
  }
}
