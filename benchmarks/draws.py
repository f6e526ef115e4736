"""Search among whole networks of one cost that share their weights: each iteration draws some and moves those.

A mixture pays for a share of a kernel and computes with all of it, and where its weights have no slope neither has its
architecture; so it cannot weigh a kernel against the channels that the kernel costs. Networks that are drawn can. Each
has the kernels k of a choice and as many channels as the multiply-adds allow; its parameters are a part of theta, the
middle taps and the first channels (Guo et al. 2020, arXiv 1904.00420; Yu et al. 2019, arXiv 1812.08928). With
p = softmax(a) a layer, the meta-loss is J = sum_k p(k) Q_k(theta), and of draws k_1 .. k_D on the same tasks
d J / d theta = mean_d d Q_d / d theta,  d J / d a = 1 / (D - 1) sum_d (Q_d - mean Q) d log p(k_d) / d a
are unbiased; d Q / d theta is exact through the inner steps (Pham et al. 2018, arXiv 1802.03268, with MAML inside).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmeta as fm

Array = NDArray[Any]
Choice = tuple[int, ...]  # a kernel a layer
INNER_RATE = 0.4


@dataclass(frozen=True)
class Draws:
    """The networks of all choices of L kernels, by build(choice), and where their parameters lie in the widest's."""

    build: Callable[[Choice], fm.Network]
    kernels: Choice
    layers: int

    @cached_property
    def nets(self) -> dict[Choice, fm.Network]:
        """Each choice's network."""
        return {choice: self.build(choice) for choice in itertools.product(self.kernels, repeat=self.layers)}

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The largest shape of each parameter array."""
        every = [list(net.parameter_shapes.values()) for net in self.nets.values()]
        return [tuple(map(max, zip(*shapes, strict=True))) for shapes in zip(*every, strict=True)]

    @cached_property
    def places(self) -> dict[Choice, Array]:
        """(P_k,): the place in theta of each of its parameters."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        starts = np.cumsum([0, *sizes])
        wholes = [start + np.arange(n).reshape(s) for start, n, s in zip(starts, sizes, self.shapes, strict=False)]
        found = {}
        for choice, net in self.nets.items():
            own = net.parameter_shapes.values()
            found[choice] = np.concatenate([_part(whole, shape) for whole, shape in zip(wholes, own, strict=True)])
        return found

    def first(self, seed: int) -> Array:
        """theta before the search: each network's first parameters, in order, the widest kernels' last."""
        theta = np.zeros(sum(int(np.prod(shape)) for shape in self.shapes), np.float32)
        for choice, net in self.nets.items():
            theta[self.places[choice]] = net.init(seed)
        return theta

    def probabilities(self, a: Array) -> Array:
        """p (L, K) = softmax(a) of each layer."""
        e = np.exp(a - a.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def slopes(
        self, theta: Array, a: Array, drawn: Sequence[Choice], batch: fm.Batch, steps: int, order: int = 2
    ) -> tuple[Array, Array]:
        """What these draws say of the slopes of J by theta (P,) and by a (L, K)."""
        losses, d_theta, scores = [], np.zeros_like(theta), []
        for choice in drawn:
            at = self.places[choice]
            found = fm.meta_gradient(self.nets[choice], theta[at], batch, INNER_RATE, steps, order)
            d_theta[at] += found.gradient / len(drawn)
            losses.append(found.loss)
            scores.append(np.equal.outer(choice, self.kernels) - self.probabilities(a))
        told = (np.array(losses) - np.mean(losses)) / (len(drawn) - 1)
        return d_theta, np.tensordot(told, np.array(scores), 1)


def _part(whole: Array, shape: tuple[int, ...]) -> Array:
    """The middle taps of a kernel (k, k, I, O), and the first channels, flat."""
    taps = 2 if len(shape) == 4 else 0
    first = [(n - m) // 2 if axis < taps else 0 for axis, (n, m) in enumerate(zip(whole.shape, shape, strict=True))]
    return np.asarray(whole[tuple(slice(i, i + m) for i, m in zip(first, shape, strict=True))]).ravel()


def searched(draws: Draws, tasks: Any, iterations: int, seed: int, steps: int, order: int = 2) -> Array:
    """p (L, K) after a search by two draws an iteration on the same four tasks; theta moves alone at first."""
    theta, a = draws.first(seed), np.zeros((draws.layers, len(draws.kernels)))
    adam, slow = fm.Adam(3e-3), fm.Adam(0.03)
    of_theta, of_a, rng = adam.init(theta), slow.init(a), np.random.default_rng(seed)
    for iteration in range(iterations):
        batch, p = tasks.sample(4, seed=seed, step=iteration), draws.probabilities(a)
        drawn = [tuple(int(rng.choice(draws.kernels, p=q)) for q in p) for _ in range(2)]
        d_theta, d_a = draws.slopes(theta, a, drawn, batch, steps, order)
        theta, of_theta = adam.update(theta, d_theta, of_theta)
        if iteration >= iterations // 4:
            a, of_a = slow.update(a, d_a, of_a)
    return draws.probabilities(a)


def likeliest(draws: Draws, p: Array, count: int) -> list[Choice]:
    """The `count` choices of the largest probability, from the likeliest down."""
    shares = {c: np.prod([p[i, draws.kernels.index(k)] for i, k in enumerate(c)]) for c in draws.nets}
    return sorted(shares, key=lambda choice: -shares[choice])[:count]
