// A whole inner loop, the query and the sweep back through it, for a small MLP in one launch: one block a task.
//
// Shared memory holds phi, v, the direction u, and the values, deltas and tangents of every position, all transposed:
// a position of `width` features is (width + 1, N'), N' samples padded to an odd multiple of 4, and its last row is the
// constant 1 that the bias is multiplied with (0 in a tangent). A layer's weights and bias are (I + 1, O') with O' odd.
// So rows can be read by neighbouring threads, and samples four at a time, from different banks.
//
// An activation's derivatives are functions of its value y: f' = slope(y), and f'' x_dot dy = bend(y) y_dot dy, where
// dy is what the delta was before it was multiplied by f'.
#pragma once
#include "base.cuh"

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

DEVICE bool mlp_curved(int kind) { return kind == MLP_TANH || kind == MLP_SOFTPLUS; }

template <typename T>
DEVICE T mlp_activate(T x, int kind) {
  if (kind == MLP_TANH) return tanh(x);
  return (x > T(0) ? x : T(0)) + log1p(exp(x > T(0) ? -x : x));
}

template <typename T>
DEVICE T mlp_slope(T y, int kind) {
  return kind == MLP_TANH ? T(1) - y * y : -expm1(-y);
}

// f'' / f'.
template <typename T>
DEVICE T mlp_bend(T y, int kind) {
  return kind == MLP_TANH ? T(-2) * y : exp(-y);
}

// One task's set, as the passes see it.
template <typename T>
struct MlpSet {
  const T *x, *targets, *weights;
  const long long* labels;
  int samples;
};

// The network of a block: passes over its shared memory. Every pass ends with a barrier.
template <typename T>
struct MlpBlock {
  const Mlp<T>& job;
  T* shared;

  DEVICE int stride(int layer) const { return job.widths[layer + 1] | 1; }
  DEVICE T* weight(int layer, int copy) const { return shared + copy + job.weights_at[layer]; }

  // Sums over `depth` rows of a (depth, N') and columns of w of this thread's tile: 4 samples from `n`, and 4 of
  // `count` outputs from `o`, `step` apart. w(k, o) = w[k * row + o * column].
  DEVICE void add(T (&sums)[MLP_TILE][MLP_TILE], const T* a, const T* w, int depth, int row, int column, int n, int o,
                  int step, int count) const {
    const int ns = job.sample_stride;
#pragma unroll 4
    for (int k = 0; k < depth; k++) {
      const Four<T> left = *reinterpret_cast<const Four<T>*>(a + k * ns + n);
#pragma unroll
      for (int j = 0; j < MLP_TILE; j++) {
        const int at = o + j * step;
        const T right = w[k * row + (at < count ? at : o) * column];
#pragma unroll
        for (int i = 0; i < MLP_TILE; i++) sums[j][i] += left.at[i] * right;
      }
    }
  }

  // result[o][n] = the sum of the products that `fill` adds, times f' for a ReLU of y (0: none), for every output
  // o < count and padded sample n; behind a curved activation bend(place) then goes over each of them.
  template <typename Fill, typename Bend>
  DEVICE void for_outputs(int count, int samples, T* result, const T* y, int kind, Fill fill, Bend bend) const {
    const int groups = (count + MLP_TILE - 1) / MLP_TILE, tiles = groups * ((samples + 3) / 4);
    for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) {
      const int o = tile % groups, first = o * job.sample_stride + tile / groups * 4, step = groups * job.sample_stride;
      T sums[MLP_TILE][MLP_TILE] = {};
      fill(sums, tile / groups * 4, o, groups);
#pragma unroll
      for (int j = 0; j < MLP_TILE; j++) {
        if (o + j * groups < count) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const int at = first + j * step + i;
            T sum = sums[j][i];
            if (kind == MLP_RELU) sum = y == nullptr ? rectify(sum) : passed(sum, y, at);
            result[at] = sum;
          }
        }
      }
      if (!mlp_curved(kind)) continue;
#pragma unroll 1
      for (int j = 0; j < 16; j++) {
        if (o + j / 4 * groups < count) bend(first + j / 4 * step + j % 4);
      }
    }
    __syncthreads();
  }

  // Input and constant rows of all positions.
  DEVICE void load(const MlpSet<T>& set, bool tangents) const {
    const int ns = job.sample_stride, features = job.widths[0];
    for (int n = threadIdx.x; n < ns; n += blockDim.x) {
      for (int i = 0; i < features; i++) {
        shared[job.values_at[0] + i * ns + n] = n < set.samples ? set.x[n * features + i] : T(0);
      }
      for (int l = 0; l < job.layers; l++) {
        shared[job.values_at[l] + job.widths[l] * ns + n] = n < set.samples ? T(1) : T(0);
        if (tangents && l > 0) shared[job.tangents_at[l] + job.widths[l] * ns + n] = T(0);
      }
    }
    __syncthreads();
  }

  DEVICE void forward(const MlpSet<T>& set) const {
    for (int l = 0; l < job.layers; l++) {
      const T *x = shared + job.values_at[l], *w = weight(l, job.phi_at);
      T* y = shared + job.values_at[l + 1];
      const int inputs = job.widths[l], outputs = job.widths[l + 1], row = stride(l), kind = job.activations[l];
      for_outputs(
          outputs, set.samples, y, nullptr, kind,
          [&](T(&sums)[4][4], int n, int o, int step) { add(sums, x, w, inputs + 1, row, 1, n, o, step, outputs); },
          [&](int at) { y[at] = mlp_activate(y[at], kind); });
    }
  }

  DEVICE void forward_tangent(const MlpSet<T>& set) const {
    for (int l = 0; l < job.layers; l++) {
      const T *x = shared + job.values_at[l], *x_dot = shared + job.tangents_at[l];
      const T *w = weight(l, job.phi_at), *w_dot = weight(l, job.direction_at), *y = shared + job.values_at[l + 1];
      T* y_dot = shared + job.tangents_at[l + 1];
      const int inputs = job.widths[l], outputs = job.widths[l + 1], row = stride(l), kind = job.activations[l];
      for_outputs(
          outputs, set.samples, y_dot, y, kind,
          [&](T(&sums)[4][4], int n, int o, int step) {
            add(sums, x, w_dot, inputs + 1, row, 1, n, o, step, outputs);
            if (l > 0) add(sums, x_dot, w, inputs, row, 1, n, o, step, outputs);
          },
          [&](int at) { y_dot[at] *= mlp_slope(y[at], kind); });
    }
  }

  // The last delta, and the loss if `loss` is not null.
  DEVICE void loss(const MlpSet<T>& set, T* loss) const {
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

  DEVICE void loss_tangent(const MlpSet<T>& set) const {
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

  // Deltas of all positions but the input, before their activations.
  DEVICE void backward(const MlpSet<T>& set) const {
    for (int l = job.layers - 1; l > 0; l--) {
      const T *dy = shared + job.deltas_at[l + 1], *w = weight(l, job.phi_at), *x = shared + job.values_at[l];
      T* dx = shared + job.deltas_at[l];
      const int inputs = job.widths[l], outputs = job.widths[l + 1], row = stride(l), kind = job.activations[l - 1];
      for_outputs(
          inputs, set.samples, dx, x, kind,
          [&](T(&sums)[4][4], int n, int i, int step) { add(sums, dy, w, outputs, 1, row, n, i, step, inputs); },
          [&](int at) { dx[at] *= mlp_slope(x[at], kind); });
    }
  }

  DEVICE void backward_tangent(const MlpSet<T>& set) const {
    for (int l = job.layers - 1; l > 0; l--) {
      const T *dy = shared + job.deltas_at[l + 1], *dy_dot = shared + job.delta_tangents_at[l + 1];
      const T *w = weight(l, job.phi_at), *w_dot = weight(l, job.direction_at);
      const T *x = shared + job.values_at[l], *x_dot = shared + job.tangents_at[l], *dx = shared + job.deltas_at[l];
      T* dx_dot = shared + job.delta_tangents_at[l];
      const int inputs = job.widths[l], outputs = job.widths[l + 1], row = stride(l), kind = job.activations[l - 1];
      for_outputs(
          inputs, set.samples, dx_dot, x, kind,
          [&](T(&sums)[4][4], int n, int i, int step) {
            add(sums, dy_dot, w, outputs, 1, row, n, i, step, inputs);
            add(sums, dy, w_dot, outputs, 1, row, n, i, step, inputs);
          },
          [&](int at) {
            const T y = x[at], slope = mlp_slope(y, kind);
            const T bent = slope == T(0) ? T(0) : mlp_bend(y, kind) * x_dot[at] * (dx[at] / slope);
            dx_dot[at] = slope * dx_dot[at] + bent;
          });
    }
  }

  // Calls each(layer, i, o, dw, dw_dot) for every weight and bias with the gradient and, if TANGENTS, its tangent.
  template <bool TANGENTS, typename Each>
  DEVICE void for_weights(const MlpSet<T>& set, Each each) const {
    const int ns = job.sample_stride;
    int tile = threadIdx.x;
    for (int l = 0; l < job.layers; l++) {
      const int rows = job.widths[l] + 1, outputs = job.widths[l + 1];
      const int row_step = (rows + 3) / 4, column_step = (outputs + 3) / 4, tiles = row_step * column_step;
      for (; tile < tiles; tile += blockDim.x) {
        const int first_i = tile / column_step, first_o = tile % column_step;
        T dw[4][4] = {}, dw_dot[4][4] = {};
        for (int n = 0; n < set.samples; n += 4) {
          Four<T> x[4], dy[4];
          gather(x, shared + job.values_at[l] + n, first_i, row_step, rows);
          gather(dy, shared + job.deltas_at[l + 1] + n, first_o, column_step, outputs);
          outer(dw, x, dy);
          if constexpr (TANGENTS) {
            if (l > 0) {
              gather(x, shared + job.tangents_at[l] + n, first_i, row_step, rows);
              outer(dw_dot, x, dy);
              gather(x, shared + job.values_at[l] + n, first_i, row_step, rows);
            }
            gather(dy, shared + job.delta_tangents_at[l + 1] + n, first_o, column_step, outputs);
            outer(dw_dot, x, dy);
          }
        }
#pragma unroll
        for (int a = 0; a < 4; a++) {
#pragma unroll
          for (int b = 0; b < 4; b++) {
            const int i = first_i + a * row_step, o = first_o + b * column_step;
            if (i < rows && o < outputs) each(l, i, o, dw[a][b], dw_dot[a][b]);
          }
        }
      }
      tile -= tiles;
    }
    __syncthreads();
  }
  DEVICE void gather(Four<T> (&four)[4], const T* from, int first, int step, int count) const {
#pragma unroll
    for (int a = 0; a < 4; a++) {
      const int at = first + a * step;
      four[a] = *reinterpret_cast<const Four<T>*>(from + (at < count ? at : first) * job.sample_stride);
    }
  }
  DEVICE static void outer(T (&sums)[4][4], const Four<T> (&x)[4], const Four<T> (&dy)[4]) {
#pragma unroll
    for (int a = 0; a < 4; a++) {
#pragma unroll
      for (int b = 0; b < 4; b++) {
#pragma unroll
        for (int n = 0; n < 4; n++) sums[a][b] += x[a].at[n] * dy[b].at[n];
      }
    }
  }

  DEVICE int place(int l, int i, int o) const { return job.theta_at[l] + i * job.widths[l + 1] + o; }
  DEVICE int padded_place(int l, int i, int o) const { return job.weights_at[l] + i * stride(l) + o; }

  // Which of a step's rates belongs to a weight (i < I) or bias (i = I).
  DEVICE int rate(int l, int i, int o) const {
    if (job.rate_count == 1) return 0;
    return job.rate_count == job.parameters ? place(l, i, o) : 2 * l + (i == job.widths[l]);
  }
  DEVICE bool moves(int l, int i, int o) const {
    const int p = place(l, i, o);
    return job.start <= p && p < job.stop;
  }

  // Calls each(layer, i, o) for every weight and bias.
  template <typename Each>
  DEVICE void for_places(Each each) const {
    for (int l = 0; l < job.layers; l++) {
      const int outputs = job.widths[l + 1], count = (job.widths[l] + 1) * outputs;
      for (int at = threadIdx.x; at < count; at += blockDim.x) each(l, at / outputs, at % outputs);
    }
    __syncthreads();
  }
};

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
      block.loss(set, inner ? job.support_losses.of(task) + k : job.query_losses.of(task));
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
        block.loss(support, nullptr);
        block.backward(support);
        block.forward_tangent(support);
        block.loss_tangent(support);
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
