// A small MLP in one block's shared memory: what there is, and its losses.
//
// Shared memory holds phi, v, the direction u, and the values, deltas and tangents of every position, all transposed:
// a position of `width` features is (width + 1, N'), N' samples padded to an odd multiple of 4, and its last row is the
// constant 1 that the bias is multiplied with (0 in a tangent). A layer's weights and bias are (I + 1, O') with O' odd.
// So rows can be read by neighbouring threads, and samples four at a time, from different banks.
#pragma once
#include "../machine/base.cuh"

constexpr int MLP_LAYERS = 8, MLP_THREADS = 256, MLP_TILE = 4;
enum MlpActivation { MLP_LINEAR = 0, MLP_RELU = 3, MLP_TANH = 4, MLP_SOFTPLUS = 5 };  // as in layer_table.py

// Four values side by side, loaded at once.
template <typename T>
struct __align__(16) Four {
  T at[4];
};

template <typename T>
struct Mlp {
  Batched<const T> theta, x, targets, weights, query_x, query_targets, query_weights;
  Batched<const long long> labels, query_labels;
  Batched<T> support_losses, query_losses;  // (S,), (1,)
  Batched<T> phi;                           // phi_S, where that is all there is to compute
  T* steps_of_block;                        // (chunks, S, padded): phi_k, or grad L(phi_k) if first order
  T* gradient;                              // (chunks, P): sums of v_0 over a chunk's tasks
  T* rates_gradient;                        // (chunks, rows, 1 or P): the same of d Q / d alpha
  const T* rates;                           // (rows, rate_count)
  int tasks, chunks, layers, parameters, padded, steps, exact;
  int samples, query_samples, sample_stride, outputs;
  int rate_rows, rate_count, start, stop;
  int widths[9], activations[8];
  int theta_at[8], weights_at[8];                        // in theta, and in a padded copy of it
  int values_at[9], deltas_at[9], tangents_at[9], delta_tangents_at[9];  // in shared memory
  int phi_at, v_at, direction_at, losses_at;
};

// One task's set, as the passes see it.
template <typename T>
struct MlpSet {
  const T *x, *targets, *weights;
  const long long* labels;
  int samples;
};

// The last delta, and the loss if `loss` is not null.
template <typename T>
DEVICE void mlp_loss(const Mlp<T>& job, const MlpSet<T>& set, T* shared, T* loss) {
  const int ns = job.sample_stride, outputs = job.outputs;
  const T* z = shared + job.values_at[job.layers];
  T *dz = shared + job.deltas_at[job.layers], *losses = shared + job.losses_at;
  const T scale = T(1) / T(set.labels != nullptr ? set.samples : set.samples * outputs);
  for (int n = threadIdx.x; n < ns; n += blockDim.x) {
    const bool real = n < set.samples;
    const T w = !real ? T(0) : set.weights == nullptr ? scale : scale * set.weights[n];
    T sum = T(0);
    if (set.labels == nullptr) {
      for (int o = 0; o < outputs; o++) {
        const T gap = real ? z[o * ns + n] - set.targets[n * outputs + o] : T(0);
        sum += gap * gap;
        dz[o * ns + n] = T(2) * w * gap;
      }
      losses[n] = w * sum;
    } else if (real) {
      const int label = static_cast<int>(set.labels[n]);
      T largest = z[n];
      for (int o = 1; o < outputs; o++) {
        const T value = z[o * ns + n];
        largest = value > largest || value != value ? value : largest;
      }
      for (int o = 0; o < outputs; o++) sum += exp(z[o * ns + n] - largest);
      for (int o = 0; o < outputs; o++) {
        dz[o * ns + n] = w * (exp(z[o * ns + n] - largest) / sum - (o == label ? T(1) : T(0)));
      }
      losses[n] = w * (log(sum) - (z[label * ns + n] - largest));
    } else {
      for (int o = 0; o < outputs; o++) dz[o * ns + n] = T(0);
    }
  }
  __syncthreads();
  if (loss != nullptr && threadIdx.x == 0) {
    T total = T(0);
    for (int n = 0; n < set.samples; n++) total += losses[n];
    *loss = total;
  }
}

// The last delta's tangent.
template <typename T>
DEVICE void mlp_loss_tangent(const Mlp<T>& job, const MlpSet<T>& set, T* shared) {
  const int ns = job.sample_stride, outputs = job.outputs;
  const T *z = shared + job.values_at[job.layers], *z_dot = shared + job.tangents_at[job.layers];
  T* dz_dot = shared + job.delta_tangents_at[job.layers];
  const T scale = T(1) / T(set.labels != nullptr ? set.samples : set.samples * outputs);
  for (int n = threadIdx.x; n < ns; n += blockDim.x) {
    const bool real = n < set.samples;
    const T w = !real ? T(0) : set.weights == nullptr ? scale : scale * set.weights[n];
    if (set.labels == nullptr || !real) {
      for (int o = 0; o < outputs; o++) dz_dot[o * ns + n] = real ? T(2) * w * z_dot[o * ns + n] : T(0);
      continue;
    }
    T largest = z[n], sum = T(0), along = T(0);
    for (int o = 1; o < outputs; o++) largest = z[o * ns + n] > largest ? z[o * ns + n] : largest;
    for (int o = 0; o < outputs; o++) {
      const T e = exp(z[o * ns + n] - largest);
      sum += e;
      along += e * z_dot[o * ns + n];
    }
    along /= sum;
    for (int o = 0; o < outputs; o++) {
      dz_dot[o * ns + n] = w * (exp(z[o * ns + n] - largest) / sum) * (z_dot[o * ns + n] - along);
    }
  }
  __syncthreads();
}
