// What the products of a convolution read: patches of x, the outputs that reach an input, and their weights.
#pragma once
#include "product.cuh"

// Sizes of a layer: x (N, h, w, c), y (N, out_h, out_w, out_c).
struct Window {
  int h, w, c;
  int out_h, out_w, out_c;
  int kernel, stride, padding;
  int quarter_h, quarter_w;  // ceil(h / stride), ceil(w / stride): places of a residue class
  Divisor by_c, by_kernel, by_out_c;
  Divisor by_out_w, by_out_pixels, by_quarter_w, by_quarter_pixels;
};

// A place in an image of a sample, in two registers: where the sample begins, and the place's row and column, 16 bits each.
constexpr int OUTSIDE = -(1 << 14);  // a row that no tap brings back
struct Place {
  int start, corner;
  DEVICE Place(int start, int h, int w) : start(start), corner(h * 65536 + (w & 0xffff)) {}
  DEVICE Place() {}
  DEVICE int h() const { return corner >> 16; }
  DEVICE int w() const { return static_cast<short>(corner & 0xffff); }
};

// The patch of x below an output place, and the input that a tap takes from it.
template <typename T>
struct Patches {
  struct Tap {
    int offset, a, b;
  };
  const T* x;
  const Window& g;
  int samples_places, taps, one;

  DEVICE Place place(int m) const {
    if (m >= samples_places) return {0, OUTSIDE, 0};
    int pixel, column;
    const int sample = g.by_out_pixels.split(m, pixel);
    const int row = g.by_out_w.split(pixel, column);
    return {sample * g.h * g.w * g.c, row * g.stride - g.padding, column * g.stride - g.padding};
  }
  DEVICE Tap tap(int k) const {
    int channel, b;
    const int window = g.by_c.split(k, channel);
    const int a = g.by_kernel.split(window, b);
    return {channel, k < taps ? a : k == taps ? -1 : 1 << 22, b};
  }
  DEVICE T value(const Place& p, const Tap& t) const {
    if (t.a < 0) return p.h() != OUTSIDE ? T(one) : T(0);
    const int h = p.h() + t.a, w = p.w() + t.b;
    const bool inside = static_cast<unsigned>(h) < static_cast<unsigned>(g.h) &&
                        static_cast<unsigned>(w) < static_cast<unsigned>(g.w);
    return inside ? x[p.start + (h * g.w + w) * g.c + t.offset] : T(0);
  }
};

// R(x): rows are places, summed over taps.
template <typename T>
struct PatchRows : Patches<T> {
  static constexpr bool OUTER_RUNS = false;
  using Outer = Place;
  using Inner = typename Patches<T>::Tap;
  DEVICE Outer outer(int m) const { return this->place(m); }
  DEVICE Inner inner(int k) const { return this->tap(k); }
  DEVICE T at(const Outer& p, const Inner& t) const { return this->value(p, t); }
};

// R(x)^T: rows are taps, summed over places.
template <typename T>
struct PatchColumns : Patches<T> {
  static constexpr bool OUTER_RUNS = true;
  using Outer = typename Patches<T>::Tap;
  using Inner = Place;
  DEVICE Outer outer(int k) const { return this->tap(k); }
  DEVICE Inner inner(int m) const { return this->place(m); }
  DEVICE T at(const Outer& t, const Inner& p) const { return this->value(p, t); }
};

// A matrix (depth, columns) whose columns are the outer index.
template <typename T>
struct Matrix {
  static constexpr bool OUTER_RUNS = true;
  using Outer = int;
  using Inner = int;
  const T* data;
  int columns;
  DEVICE int outer(int j) const { return j < columns ? j : -1; }
  DEVICE int inner(int k) const { return k * columns; }
  DEVICE T at(int j, int row) const { return j >= 0 ? data[row + j] : T(0); }
};

// Input places of one residue class modulo the stride, and the taps that reach them: a = a0 + stride a'.
struct ResidueClass {
  int h, w;    // first place
  int a, b;    // first tap
  int up, left;  // the output that the first tap takes to the first place
  int taps_a, taps_b;  // taps_b is a divisor, and 1 where there is none
  DEVICE ResidueClass(const Window& g, int index) {
    h = index / g.stride, w = index % g.stride;
    a = (h + g.padding) % g.stride, b = (w + g.padding) % g.stride;
    up = (h + g.padding) / g.stride, left = (w + g.padding) / g.stride;
    taps_a = a < g.kernel ? (g.kernel - a + g.stride - 1) / g.stride : 0;
    taps_b = b < g.kernel ? (g.kernel - b + g.stride - 1) / g.stride : 1;
  }
  DEVICE int depth(const Window& g) const { return b < g.kernel ? taps_a * taps_b * g.out_c : 0; }
};

// dy seen from the input places: rows are places, summed over (tap, output).
template <typename T>
struct ReachingOutputs {
  static constexpr bool OUTER_RUNS = false;
  using Outer = Place;
  struct Inner {
    int offset, a, b;
  };
  const T* dy;
  const Window& g;
  const ResidueClass& of;
  int places;

  DEVICE Outer outer(int m) const {
    if (m >= places) return {0, OUTSIDE, 0};
    int pixel, column;
    const int sample = g.by_quarter_pixels.split(m, pixel);
    const int row = g.by_quarter_w.split(pixel, column);
    return {sample * g.out_h * g.out_w * g.out_c, row + of.up, column + of.left};
  }
  DEVICE Inner inner(int k) const {
    int o;
    const int tap = g.by_out_c.split(k, o);
    return {o, tap / of.taps_b, tap % of.taps_b};
  }
  DEVICE T at(const Outer& p, const Inner& t) const {
    const int h = p.h() - t.a, w = p.w() - t.b;
    const bool inside = static_cast<unsigned>(h) < static_cast<unsigned>(g.out_h) &&
                        static_cast<unsigned>(w) < static_cast<unsigned>(g.out_w);
    return inside ? dy[p.start + (h * g.out_w + w) * g.out_c + t.offset] : T(0);
  }
};

// The weights of those taps: columns are inputs, summed over (tap, output).
template <typename T>
struct ReachingWeights {
  static constexpr bool OUTER_RUNS = false;
  using Outer = int;
  using Inner = int;
  const T* weight;
  const Window& g;
  const ResidueClass& of;
  DEVICE int outer(int i) const { return i < g.c ? i * g.out_c : -1; }
  DEVICE int inner(int k) const {
    int o;
    const int tap = g.by_out_c.split(k, o);
    const int a = of.a + g.stride * (tap / of.taps_b), b = of.b + g.stride * (tap % of.taps_b);
    return (a * g.kernel + b) * g.c * g.out_c + o;
  }
  DEVICE T at(int i, int row) const { return i >= 0 ? weight[row + i] : T(0); }
};
