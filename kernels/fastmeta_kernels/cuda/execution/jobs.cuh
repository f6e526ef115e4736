// Many jobs in one launch. A group of blocks takes a task through all of them in their order and waits for itself
// between two; tasks need not wait for each other. A group is a row of the grid. Which block does what changes no bit of the results, so a group may
// have any number of blocks; with more than one, all blocks of the grid must run at once (a cooperative launch).
#pragma once
#include "../layers/append.cuh"
#include "../layers/batch_norm.cuh"
#include "../layers/convolution.cuh"
#include "../layers/elementwise.cuh"
#include "../layers/layer_norm.cuh"
#include "../program/inner_loop.cuh"
#include "../losses/losses.cuh"
#include "../losses/policies.cuh"

constexpr int JOB_THREADS = 256, JOB_BYTES = 1024;
constexpr int JOB_SHARED = tile_values<4, 4>;  // values; the largest that any job takes
static_assert(JOB_SHARED >= NORM_SUMS * NORM_THREADS && JOB_SHARED >= LOSS_THREADS, "shared memory of a job");
static_assert(NORM_THREADS == JOB_THREADS && LOSS_THREADS == JOB_THREADS && PRODUCT_THREADS == JOB_THREADS, "threads");

struct Job {
  const unsigned* members;  // the struct of its kind
  int kind, blocks, bytes;  // blocks for each task
};

struct Jobs {
  const Job* jobs;
  unsigned* arrived;  // (groups, ARRIVED_STEP), 0 at first
  int count, tasks;
};

constexpr int ARRIVED_STEP = 32;  // a cache line each

// The kinds: number, struct, function. Python reads them here.
template <typename T, int P>
DEVICE void run_job(int kind, const void* members, long long task, int block, T* shared) {
#define JOB(number, type, ...)                                                      \
  case number:                                                                      \
    static_assert(sizeof(type<T>) <= JOB_BYTES, "a job");                           \
    __VA_ARGS__(*static_cast<const type<T>*>(members), task, block, shared);        \
    break
  switch (kind) {
    JOB(0, Product, convolve<T, P, 4, 4>);
    JOB(1, Product, convolve<T, P, 4, 2>);
    JOB(2, Product, convolve<T, P, 4, 1>);
    JOB(3, ProductPair, convolve_backward<T, P, 4, 4>);
    JOB(4, ProductPair, convolve_backward<T, P, 4, 2>);
    JOB(5, ProductPair, convolve_backward<T, P, 4, 1>);
    JOB(6, Product, add_splits<T>);
    JOB(7, BatchNorm, norm_forward<T>);
    JOB(8, BatchNorm, norm_backward<T>);
    JOB(9, BatchNorm, norm_forward_tangent<T>);
    JOB(10, BatchNorm, norm_backward_tangent<T>);
    JOB(11, Elementwise, activate<T, ACTIVATION_RELU>);
    JOB(12, Elementwise, activate<T, ACTIVATION_TANH>);
    JOB(13, Elementwise, activate<T, ACTIVATION_SOFTPLUS>);
    JOB(14, Elementwise, activate_slope<T, ACTIVATION_RELU>);
    JOB(15, Elementwise, activate_slope<T, ACTIVATION_TANH>);
    JOB(16, Elementwise, activate_slope<T, ACTIVATION_SOFTPLUS>);
    JOB(17, Elementwise, activate_backward_tangent<T, ACTIVATION_RELU>);
    JOB(18, Elementwise, activate_backward_tangent<T, ACTIVATION_TANH>);
    JOB(19, Elementwise, activate_backward_tangent<T, ACTIVATION_SOFTPLUS>);
    JOB(20, Elementwise, max_pool<T>);
    JOB(21, Elementwise, max_pool_backward<T>);
    JOB(22, Elementwise, mean_pool<T>);
    JOB(23, Elementwise, mean_pool_backward<T>);
    JOB(24, Loss, cross_entropy<T>);
    JOB(25, Loss, cross_entropy_tangent<T>);
    JOB(26, Loss, squared_error<T>);
    JOB(27, Loss, squared_error_tangent<T>);
    JOB(28, Sweep, descend<T>);
    JOB(29, Sweep, sweep<T>);
    JOB(30, LayerNorm, layer_norm<T>);
    JOB(31, LayerNorm, layer_norm_backward<T>);
    JOB(32, LayerNorm, layer_norm_tangent<T>);
    JOB(33, LayerNorm, layer_norm_backward_tangent<T>);
    JOB(34, LayerNorm, layer_norm_gradient<T>);
    JOB(35, Loss, huber<T>);
    JOB(36, Loss, huber_tangent<T>);
    JOB(37, SampleSlopes, sample_slopes<T>);
    JOB(38, Append, append<T>);
    JOB(39, Append, append_backward<T>);
    JOB(40, Append, append_gradient<T>);
    JOB(41, PolicyLoss, gaussian_loss<T>);
    JOB(42, PolicyLoss, gaussian_loss_tangent<T>);
    JOB(43, PolicyLoss, gaussian_divergence<T>);
    JOB(44, PolicyLoss, gaussian_divergence_tangent<T>);
    JOB(45, PolicyLoss, gaussian_metric<T>);
    JOB(46, PolicyLoss, categorical_loss<T>);
    JOB(47, PolicyLoss, categorical_loss_tangent<T>);
    JOB(48, PolicyLoss, categorical_divergence<T>);
    JOB(49, PolicyLoss, categorical_metric<T>);
  }
#undef JOB
}

#ifndef BLOCKS_IN_TURN
// Waits until all blocks of the group are here. A counter's lowest bits count them; the last one turns its highest bit,
// whichever it is, and leaves the others 0.
DEVICE void wait_for_blocks(unsigned* arrived) {
  __syncthreads();
  if (gridDim.x > 1 && threadIdx.x == 0) {
    __threadfence();
    const unsigned before = atomicAdd(arrived, blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u);
    while (((before ^ *static_cast<volatile unsigned*>(arrived)) & 0x80000000u) == 0) __nanosleep(20);
    __threadfence();
  }
  __syncthreads();
}
#endif

template <typename T, int P>
__global__ void __launch_bounds__(JOB_THREADS, sizeof(T) == 4 ? 2 : 1) run_jobs(Jobs all) {
  __shared__ __align__(16) T shared[JOB_SHARED];
  __shared__ __align__(16) unsigned members[JOB_BYTES / 4];
  for (int task = blockIdx.y; task < all.tasks; task += gridDim.y) {
    for (int i = 0; i < all.count; i++) {
      const Job* job = all.jobs + i;
      for (int word = threadIdx.x; word < job->bytes / 4; word += JOB_THREADS) members[word] = job->members[word];
      __syncthreads();
      for (int block = blockIdx.x; block < job->blocks; block += gridDim.x) {
        run_job<T, P>(job->kind, members, task, block, shared);
        __syncthreads();
      }
      if (i + 1 < all.count) wait_for_blocks(all.arrived + blockIdx.y * ARRIVED_STEP);
    }
  }
}
