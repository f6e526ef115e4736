// Runs CUDA C++ kernels on the CPU, so that their source can be tested where there is no GPU: blocks one after another,
// each up to its end, or up to where it waits for the others (`wait_for_blocks`).
//
// By default the threads of a block are fibers on one OS thread. Between two barriers they run in an order that
// `set_order` chooses (0 forwards, 1 backwards, else shuffled by that seed), and so do blocks: a missing barrier gives
// wrong numbers in some order. With -DREAL_THREADS each is an OS thread, for ThreadSanitizer and AddressSanitizer, and
// blocks cannot wait for each other.
// Dynamic shared memory starts as NaN. Barriers that only some threads reach, or two different ones at once, abort.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <tuple>
#include <utility>
#include <vector>
#ifdef REAL_THREADS
#include <condition_variable>
#include <mutex>
#include <thread>
#else
#include <csetjmp>
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__
#define __shared__ static
#define BLOCKS_IN_TURN
#define TENSOR_CORES_ON_CPU
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(on_cpu::block.shared)

using std::max;
using std::min;

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

namespace on_cpu {

struct Thread {
  Index index;
  int barrier = 0;  // line of the barrier where it waits; ALL_BLOCKS: for the other blocks too
  bool done = false;
#ifndef REAL_THREADS
  ucontext_t context;
  std::jmp_buf place;
  bool started = false;
  std::unique_ptr<char[]> stack;
#endif
};

constexpr int ALL_BLOCKS = -1;

struct Block {
  Index index;
  unsigned threads = 0;
  char* shared = nullptr;
  size_t shared_bytes = 0;
  bool waits = false;
  void (*body)(void*) = nullptr;
  void* arguments = nullptr;
#ifdef REAL_THREADS
  std::mutex lock;
  std::condition_variable changed;
  unsigned waiting = 0, alive = 0, round = 0;
#else
  std::jmp_buf scheduler;
#endif
};

inline Block block;
inline Index grid, shape;
inline int order = 0;
#ifdef REAL_THREADS
inline thread_local Thread* current = nullptr;
#else
inline Thread* current = nullptr;
#endif

[[noreturn]] inline void fail(const char* what, int line) {
  std::fprintf(stderr, "cuda_on_cpu: %s (line %d, block %u)\n", what, line, block.index.x);
  std::abort();
}

#ifdef REAL_THREADS

inline void wait_at(int) {
  std::unique_lock<std::mutex> held(block.lock);
  const unsigned round = block.round;
  if (++block.waiting == block.alive) {
    block.waiting = 0;
    block.round++;
    block.changed.notify_all();
  } else {
    block.changed.wait(held, [&] { return block.round != round; });
  }
}

inline void run_block() {
  block.alive = block.threads;
  block.waiting = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < block.threads; i++) {
    threads.emplace_back([i] {
      Thread mine;
      mine.index.x = i;
      current = &mine;
      block.body(block.arguments);
      std::lock_guard<std::mutex> held(block.lock);
      if (--block.alive && block.waiting == block.alive) {
        block.waiting = 0;
        block.round++;
      }
      block.changed.notify_all();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

inline void run_grid() {
  if (grid.x > 1 && block.waits) fail("blocks cannot wait for each other", 0);
  for (block.index.y = 0; block.index.y < grid.y; block.index.y++) {
    for (block.index.x = 0; block.index.x < grid.x; block.index.x++) {
      std::memset(block.shared, 0xff, block.shared_bytes);
      run_block();
    }
  }
}

#else

inline void leave() {
  Thread* thread = current;
  if (!_setjmp(thread->place)) _longjmp(block.scheduler, 1);
}

inline void wait_at(int line) {
  current->barrier = line;
  leave();
}

inline void fiber() {
  for (;;) {
    block.body(block.arguments);
    current->done = true;
    leave();
  }
}

inline void enter(Thread* thread) {
  current = thread;
  if (_setjmp(block.scheduler)) return;
  if (thread->started) _longjmp(thread->place, 1);
  constexpr size_t STACK = 64 << 10;
  thread->started = true;
  thread->stack.reset(new char[STACK]);
  getcontext(&thread->context);
  thread->context.uc_stack.ss_sp = thread->stack.get();
  thread->context.uc_stack.ss_size = STACK;
  thread->context.uc_link = nullptr;
  makecontext(&thread->context, fiber, 0);
  setcontext(&thread->context);
}

// The threads of a block that have not ended, and where it is in the grid.
struct Place {
  Index index;
  std::vector<Thread*> live;
};

// Runs a block until it ends or waits for others.
inline void run_block(Place& place, std::minstd_rand& random) {
  std::vector<Thread*>& live = place.live;
  block.index = place.index;
  std::memset(block.shared, 0xff, block.shared_bytes);
  do {
    if (order == 1) std::reverse(live.begin(), live.end());
    if (order > 1) std::shuffle(live.begin(), live.end(), random);
    for (Thread* thread : live) {
      thread->barrier = 0;
      enter(thread);
    }
    const size_t before = live.size();
    live.erase(std::remove_if(live.begin(), live.end(), [](Thread* t) { return t->done; }), live.end());
    if (live.empty()) return;
    if (live.size() != before) fail("some threads ended while others wait at a barrier", live[0]->barrier);
    for (Thread* thread : live) {
      if (thread->barrier != live[0]->barrier) fail("threads wait at different barriers", thread->barrier);
    }
  } while (live[0]->barrier != ALL_BLOCKS);
}

inline std::vector<std::unique_ptr<Thread>> pool;

inline void run_grid() {
  const bool together = grid.x > 1 && block.waits;
  const size_t at_once = together ? grid.x * grid.y : 1;
  while (pool.size() < at_once * block.threads) pool.emplace_back(new Thread);
  std::minstd_rand random(order + 1);
  for (size_t first = 0; first < static_cast<size_t>(grid.x) * grid.y; first += at_once) {
    std::vector<Place> places(at_once);
    for (size_t b = 0; b < at_once; b++) {
      places[b].index.x = (first + b) % grid.x;
      places[b].index.y = (first + b) / grid.x;
      for (unsigned i = 0; i < block.threads; i++) {
        Thread* thread = pool[b * block.threads + i].get();
        thread->index.x = i;
        thread->done = false;
        places[b].live.push_back(thread);
      }
    }
    while (!places.empty()) {
      if (order == 1) std::reverse(places.begin(), places.end());
      if (order > 1) std::shuffle(places.begin(), places.end(), random);
      for (Place& place : places) run_block(place, random);
      places.erase(std::remove_if(places.begin(), places.end(), [](Place& p) { return p.live.empty(); }), places.end());
    }
  }
}

#endif

struct Launch {
  unsigned columns, rows, threads;
  size_t shared;
  int waits;  // whether all blocks run at once
};

// Calls kernel(arguments...) for every thread of every block; `pointers` holds the address of each argument.
template <typename... A, size_t... I>
void launch(void (*kernel)(A...), const Launch& how, void** pointers, std::index_sequence<I...>) {
  const auto call = [&] { kernel(*static_cast<std::remove_reference_t<A>*>(pointers[I])...); };
  using Call = decltype(call);
  std::vector<double> memory(how.shared / sizeof(double) + 1);
  block.shared = reinterpret_cast<char*>(memory.data());
  block.shared_bytes = memory.size() * sizeof(double);
  block.threads = shape.x = how.threads;
  block.waits = how.waits;
  block.arguments = const_cast<void*>(static_cast<const void*>(&call));
  block.body = [](void* arguments) { (*static_cast<Call*>(arguments))(); };
  grid.x = how.columns;
  grid.y = how.rows;
  run_grid();
}

template <typename... A>
void launch(void (*kernel)(A...), const Launch& how, void** pointers) {
  launch(kernel, how, pointers, std::index_sequence_for<A...>{});
}

}  // namespace on_cpu

#define threadIdx (on_cpu::current->index)
#define blockIdx (on_cpu::block.index)
#define blockDim (on_cpu::shape)
#define gridDim (on_cpu::grid)
#define __syncthreads() on_cpu::wait_at(__LINE__)

inline void wait_for_blocks(unsigned*) { on_cpu::wait_at(gridDim.x > 1 ? on_cpu::ALL_BLOCKS : __LINE__); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<uint64_t>(a) * b >> 32; }
template <typename T>
T rsqrt(T x) {
  return T(1) / std::sqrt(x);
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The 10 bits of mantissa next to x, halves away from 0.
inline unsigned to_tf32(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return std::isfinite(x) ? (bits + 0x1000) & ~0x1fffu : bits;
}

// mma.m16n8k8 of TF32 by the threads of a block, warp by warp; what does not fit into a float is cut off.
inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  static unsigned lefts[1024][4], rights[1024][2];
  const unsigned thread = threadIdx.x, warp = thread / 32 * 32, group = thread % 32 / 4, place = thread % 4;
  std::memcpy(lefts[thread], a, sizeof a);
  std::memcpy(rights[thread], b, sizeof b);
  __syncthreads();
  for (unsigned i = 0; i < 4; i++) {
    const unsigned row = group + i / 2 * 8, column = 2 * place + i % 2;
    double sum = c[i];
    for (unsigned k = 0; k < 8; k++) {
      const unsigned left = lefts[warp + row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
      const unsigned right = rights[warp + column * 4 + k % 4][k / 4];
      sum += static_cast<double>(__uint_as_float(left)) * __uint_as_float(right);
    }
    c[i] = static_cast<float>(sum);
    if (std::abs(static_cast<double>(c[i])) > std::abs(sum)) c[i] = std::nextafter(c[i], 0.0f);
  }
  __syncthreads();
}
using std::exp;
using std::log;
using std::log1p;
using std::sqrt;
using std::tanh;

extern "C" void set_order(int order) { on_cpu::order = order; }
