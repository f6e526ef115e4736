// A small MLP in one block's shared memory: its four passes.
//
// An activation's derivatives are functions of its value y: f' = slope(y), and f'' x_dot dy = bend(y) y_dot dy, where
// dy is what the delta was before it was multiplied by f'.
#pragma once
#include "losses.cuh"

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
