// Batch norm over the rows of x (rows, channels): a block owns NORM_WIDTH channels of a task, or a chunk of their rows.
//
// With one chunk a kernel first sums over the rows and then writes its result. With more, it runs twice: SUMS leaves
// each chunk's sums in `partial`, APPLY adds them up in order. <.> is the mean over the rows; see kernels/mathematics.md.
// An affine layer is a batch norm with <x> = 0 and r = 1 that nothing moves, so that every other <.> is 0.
#pragma once
#include "../machine/base.cuh"

constexpr int NORM_WIDTH = 16, NORM_ROWS = 16, NORM_SUMS = 5;
constexpr int NORM_THREADS = NORM_WIDTH * NORM_ROWS;
enum NormPhase { NORM_WHOLE, NORM_SUMS_ONLY, NORM_APPLY };

template <typename T>
struct BatchNorm {
  Batched<const T> x, x_dot, dy, dy_dot;
  Batched<const T> scale, shift, scale_dot, shift_dot;
  Batched<T> result;         // y, dx, y_dot or dx_dot; may be absent in the backward passes
  Batched<T> dscale, dshift; // or their tangents
  Batched<T> statistics;     // (2, channels): <x> and r
  Batched<T> tangents;       // (2, channels): <x_dot> and <x_hat x_dot>
  Batched<const T> mask;     // x, where dx passes only if it is positive
  Batched<T> partial;        // (chunks, NORM_SUMS, channels)
  int rows, channels, groups, chunks, phase, rectified;
  int fixed;  // affine
  double epsilon;
};

// Where a thread is: its channel, its task, and the rows [first, last) that it walks in steps of NORM_ROWS.
template <typename T>
struct NormPlace {
  long long task;
  int channel, chunk, first, last, begin;
  bool active;
  DEVICE NormPlace(const BatchNorm<T>& job, long long of_task, int block) {
    const int group = block % job.groups;
    chunk = block / job.groups;
    task = of_task;
    channel = group * NORM_WIDTH + threadIdx.x % NORM_WIDTH;
    const int share = (job.rows + job.chunks - 1) / job.chunks;
    begin = chunk * share < job.rows ? chunk * share : job.rows;
    last = begin + share < job.rows ? begin + share : job.rows;
    first = begin + threadIdx.x / NORM_WIDTH;
    active = channel < job.channels;
    if (!active) first = last;
  }
  DEVICE long long at(const BatchNorm<T>& job, int row) const {
    return static_cast<long long>(row) * job.channels + channel;
  }
  DEVICE T* part(const BatchNorm<T>& job, int of_chunk, int sum) const {
    return job.partial.of(task) + (of_chunk * NORM_SUMS + sum) * job.channels + channel;
  }
};

// Makes K sums of this chunk those of all chunks. False: the chunk's own are stored, and there is nothing more to do.
template <typename T, int K>
DEVICE bool all_chunks(const BatchNorm<T>& job, const NormPlace<T>& place, T (&sums)[K]) {
  if (job.phase == NORM_WHOLE) return true;
  for (int k = 0; k < K; k++) {
    if (job.phase == NORM_SUMS_ONLY) {
      if (place.active && threadIdx.x < NORM_WIDTH) *place.part(job, place.chunk, k) = sums[k];
    } else {
      sums[k] = T(0);
      if (place.active) {
        for (int chunk = 0; chunk < job.chunks; chunk++) sums[k] += *place.part(job, chunk, k);
      }
    }
  }
  return job.phase == NORM_APPLY;
}

// The mean over the rows of what has this sum; 0 for an affine layer.
template <typename T>
DEVICE T mean_of(const BatchNorm<T>& job, T sum) {
  return job.fixed ? T(0) : sum / T(job.rows);
}

// y = scale r (x - <x>) + shift. The variance is that of the chunks and of their means (Chan et al. 1983).
template <typename T>
DEVICE void norm_forward(const BatchNorm<T>& job, long long task, int block, T* scratch) {
  const NormPlace<T> place(job, task, block);
  const int c = place.active ? place.channel : 0;
  const T* x = job.x.of(place.task);
  const T origin = x[c];  // a constant channel is its own mean to the last bit
  const int last = job.fixed ? place.first : place.last;  // no rows: no sums
  T mean, squares;
  if (job.phase != NORM_APPLY) {
    const T count = T(place.last > place.begin ? place.last - place.begin : 1);
    T sum[1] = {T(0)};
    for (int row = place.first; row < last; row += NORM_ROWS) sum[0] += x[place.at(job, row)] - origin;
    sum_over_rows<T, NORM_WIDTH, NORM_ROWS>(sum, scratch);
    mean = sum[0] / count;
    sum[0] = T(0);
    for (int row = place.first; row < last; row += NORM_ROWS) {
      const T centred = (x[place.at(job, row)] - origin) - mean;
      sum[0] += centred * centred;
    }
    sum_over_rows<T, NORM_WIDTH, NORM_ROWS>(sum, scratch);
    squares = sum[0];
    if (job.phase == NORM_SUMS_ONLY) {
      if (place.active && threadIdx.x < NORM_WIDTH) {
        *place.part(job, place.chunk, 0) = count * mean;
        *place.part(job, place.chunk, 1) = squares;
        *place.part(job, place.chunk, 2) = T(place.last - place.begin);
      }
      return;
    }
  } else {
    T total = T(0);
    squares = T(0);
    if (place.active) {
      for (int i = 0; i < job.chunks; i++) {
        if (*place.part(job, i, 2) > T(0)) total += *place.part(job, i, 0);
      }
    }
    mean = total / T(job.rows);
    if (place.active) {
      for (int i = 0; i < job.chunks; i++) {
        const T count = *place.part(job, i, 2);
        if (count > T(0)) {
          const T away = *place.part(job, i, 0) / count - mean;
          squares += *place.part(job, i, 1) + count * away * away;
        }
      }
    }
  }
  const T centre = job.fixed ? T(0) : origin + mean;
  const T variance = job.fixed ? T(1) : squares / T(job.rows) + T(job.epsilon);
  const T r = rsqrt(variance) + (variance - variance);  // NaN: an overflow must not look like a constant
  const T scale = job.scale.of(place.task)[c] * r, shift = job.shift.of(place.task)[c];
  if (place.active && place.chunk == 0 && threadIdx.x < NORM_WIDTH) {
    T* statistics = job.statistics.of(place.task);
    statistics[c] = centre;
    statistics[job.channels + c] = r;
  }
  T* y = job.result.of(place.task);
  for (int row = place.first; row < place.last; row += NORM_ROWS) {
    const long long at = place.at(job, row);
    const T value = scale * (x[at] - centre) + shift;
    y[at] = job.rectified ? rectify(value) : value;
  }
}

// dshift = sum dy, dscale = sum dy x_hat, dx = r (g - <g> - x_hat <x_hat g>) with g = scale dy.
template <typename T>
DEVICE void norm_backward(const BatchNorm<T>& job, long long task, int block, T* scratch) {
  const NormPlace<T> place(job, task, block);
  const int c = place.active ? place.channel : 0;
  const T *x = job.x.of(place.task), *dy = job.dy.of(place.task), *statistics = job.statistics.of(place.task);
  const T mean = statistics[c], r = statistics[job.channels + c];
  T sums[2] = {};
  if (job.phase != NORM_APPLY) {
    for (int row = place.first; row < place.last; row += NORM_ROWS) {
      const long long at = place.at(job, row);
      sums[0] += dy[at];
      sums[1] += dy[at] * ((x[at] - mean) * r);
    }
    sum_over_rows<T, NORM_WIDTH, NORM_ROWS>(sums, scratch);
  }
  if (!all_chunks(job, place, sums)) return;
  if (place.active && place.chunk == 0 && threadIdx.x < NORM_WIDTH) {
    job.dshift.of(place.task)[c] = sums[0];
    job.dscale.of(place.task)[c] = sums[1];
  }
  if (job.result.data == nullptr) return;
  const T scale = job.scale.of(place.task)[c];
  const T mean_g = mean_of(job, scale * sums[0]), mean_xg = mean_of(job, scale * sums[1]);
  const T* mask = job.mask.of(place.task);
  T* dx = job.result.of(place.task);
  for (int row = place.first; row < place.last; row += NORM_ROWS) {
    const long long at = place.at(job, row);
    const T x_hat = (x[at] - mean) * r;
    dx[at] = passed(r * (scale * dy[at] - mean_g - x_hat * mean_xg), mask, at);
  }
}

// y_dot = scale r (x_dot - <x_dot> - x_hat <x_hat x_dot>) + scale_dot x_hat + shift_dot.
template <typename T>
DEVICE void norm_forward_tangent(const BatchNorm<T>& job, long long task, int block, T* scratch) {
  const NormPlace<T> place(job, task, block);
  const int c = place.active ? place.channel : 0;
  const T *x = job.x.of(place.task), *x_dot = job.x_dot.of(place.task), *statistics = job.statistics.of(place.task);
  const T mean = statistics[c], r = statistics[job.channels + c];
  T sums[2] = {};
  if (job.phase != NORM_APPLY && x_dot != nullptr) {
    for (int row = place.first; row < place.last; row += NORM_ROWS) {
      const long long at = place.at(job, row);
      sums[0] += x_dot[at];
      sums[1] += x_dot[at] * ((x[at] - mean) * r);
    }
    sum_over_rows<T, NORM_WIDTH, NORM_ROWS>(sums, scratch);
  }
  if (!all_chunks(job, place, sums)) return;
  const T mean_dot = mean_of(job, sums[0]), mean_x_dot = mean_of(job, sums[1]);
  if (place.active && place.chunk == 0 && threadIdx.x < NORM_WIDTH) {
    T* tangents = job.tangents.of(place.task);
    tangents[c] = mean_dot;
    tangents[job.channels + c] = mean_x_dot;
  }
  const T scale = job.scale.of(place.task)[c], scale_dot = job.scale_dot.of(place.task)[c];
  const T shift_dot = job.shift_dot.of(place.task)[c];
  const T* mask = job.mask.of(place.task);
  T* y_dot = job.result.of(place.task);
  for (int row = place.first; row < place.last; row += NORM_ROWS) {
    const long long at = place.at(job, row);
    const T x_hat = (x[at] - mean) * r;
    const T x_hat_dot = x_dot == nullptr ? T(0) : r * (x_dot[at] - mean_dot - x_hat * mean_x_dot);
    y_dot[at] = passed(scale * x_hat_dot + scale_dot * x_hat + shift_dot, mask, at);
  }
}

// dshift_dot = sum dy_dot, dscale_dot = sum (dy_dot x_hat + dy x_hat_dot), and with g_dot = scale_dot dy + scale dy_dot
// dx_dot = J g_dot - r <x_hat x_dot> J g - r (x_hat_dot <x_hat g> + x_hat <x_hat_dot g>).
template <typename T>
DEVICE void norm_backward_tangent(const BatchNorm<T>& job, long long task, int block, T* scratch) {
  const NormPlace<T> place(job, task, block);
  const int c = place.active ? place.channel : 0;
  const T *x = job.x.of(place.task), *x_dot = job.x_dot.of(place.task);
  const T *dy = job.dy.of(place.task), *dy_dot = job.dy_dot.of(place.task);
  const T *statistics = job.statistics.of(place.task), *tangents = job.tangents.of(place.task);
  const T mean = statistics[c], r = statistics[job.channels + c];
  const T mean_dot = tangents[c], mean_x_dot = tangents[job.channels + c];
  T sums[NORM_SUMS] = {};  // of dy, dy x_hat, dy_dot, dy_dot x_hat, dy x_hat_dot
  if (job.phase != NORM_APPLY) {
    for (int row = place.first; row < place.last; row += NORM_ROWS) {
      const long long at = place.at(job, row);
      const T x_hat = (x[at] - mean) * r;
      const T x_hat_dot = x_dot == nullptr ? T(0) : r * (x_dot[at] - mean_dot - x_hat * mean_x_dot);
      sums[0] += dy[at];
      sums[1] += dy[at] * x_hat;
      sums[2] += dy_dot[at];
      sums[3] += dy_dot[at] * x_hat;
      sums[4] += dy[at] * x_hat_dot;
    }
    sum_over_rows<T, NORM_WIDTH, NORM_ROWS>(sums, scratch);
  }
  if (!all_chunks(job, place, sums)) return;
  if (place.active && place.chunk == 0 && threadIdx.x < NORM_WIDTH) {
    job.dshift.of(place.task)[c] = sums[2];
    job.dscale.of(place.task)[c] = sums[3] + sums[4];
  }
  if (job.result.data == nullptr) return;
  const T scale = job.scale.of(place.task)[c], scale_dot = job.scale_dot.of(place.task)[c];
  const T mean_g = mean_of(job, scale * sums[0]), mean_xg = mean_of(job, scale * sums[1]);
  const T mean_g_dot = mean_of(job, scale_dot * sums[0] + scale * sums[2]);
  const T mean_xg_dot = mean_of(job, scale_dot * sums[1] + scale * sums[3]), mean_x_dot_g = mean_of(job, scale * sums[4]);
  const T* mask = job.mask.of(place.task);
  T* dx_dot = job.result.of(place.task);
  for (int row = place.first; row < place.last; row += NORM_ROWS) {
    const long long at = place.at(job, row);
    const T x_hat = (x[at] - mean) * r;
    const T x_hat_dot = x_dot == nullptr ? T(0) : r * (x_dot[at] - mean_dot - x_hat * mean_x_dot);
    const T g = scale * dy[at], g_dot = scale_dot * dy[at] + scale * dy_dot[at];
    const T turned = (g_dot - mean_g_dot - x_hat * mean_xg_dot) - r * mean_x_dot * (g - mean_g - x_hat * mean_xg);
    dx_dot[at] = passed(r * (turned - x_hat_dot * mean_xg - x_hat * mean_x_dot_g), mask, at);
  }
}
