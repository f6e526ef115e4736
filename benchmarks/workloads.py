"""What is timed: the network and sizes of every row and curve, how many operations it takes, and what it should reach.

Peers read it in environments without fastmeta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from benchmarks.networks import MLP, Conv4, Embeddings, Network

DRAWING = "updates"  # the part in which each program draws its own tasks: nothing that could be compared
GIVEN = 40  # updates on given tasks, whose parameters are compared


@dataclass(frozen=True)
class Target:
    """What fastmeta should reach in a row: `times` as fast as its best peer, or a time, and an HVP's gradients."""

    times: float = 0.0
    ms: float = 0.0
    gradients: float = 0.0


@dataclass(frozen=True)
class Workload:
    """One row of the table. parts[0] is what the row is about; the others are timed beside it."""

    name: str
    title: str
    network: Network
    parts: tuple[str, ...] = ("meta_gradient",)
    tasks: int = 1
    support: int = 0  # samples of one task
    query: int = 0
    steps: int = 0
    inner_lr: float = 0.0
    order: int = 2
    adapt: str = "all"  # or "head", the last linear layer only (ANIL)
    ways: int = 0  # classes of a prototype head; 0 where the network's outputs are the logits
    target: Target = Target()
    updates: int = 0  # meta-updates of one call, in place of one meta-gradient
    best: tuple[str, ...] = ("jax",)  # `--peers best`: whatever was fastest in runs of all peers, and JAX

    @property
    def compared(self) -> tuple[str, ...]:
        """The parts that all programs compute from the same inputs."""
        return tuple(part for part in self.parts if part != DRAWING)

    @property
    def labelled(self) -> bool:
        """Cross-entropy of labels, or else mean squared error."""
        return self.classes > 1

    @property
    def classes(self) -> int:
        return self.ways or self.network.outputs

    @property
    def kind(self) -> str:
        """What decides which variants of a peer are worth trying; the keys of `peers.VARIANTS`."""
        if self.parts[0] == "process":
            return "process"
        if self.parts[0] == DRAWING:
            return "updates"
        if self.ways:
            return "head" if isinstance(self.network, Embeddings) else "protonet"
        network = "mlp" if isinstance(self.network, MLP) else "conv"
        if self.parts[0] == "hvp":
            return f"hvp-{network}"
        return "anil" if self.adapt == "head" else network

    def updates_of(self, part: str) -> int:
        """Meta-updates of one call."""
        return GIVEN if part == "given" else max(self.updates, 1)

    def flops(self, part: str) -> int:
        """Multiply-adds, counted as two, of the matrix products that any program has to do; nothing else is counted.

        With F for one forward pass: a gradient is 3F, its tangent passes 6F; a Hessian-vector product alone needs
        no dW, 2F + 6F. The first layer has neither dx nor x_dot. A prototype head is one product of queries and
        prototypes, and two backward. With ANIL the body is passed once, and only the head is unrolled.
        """
        if part == "process":
            return 0
        layers = self.network.forward_flops
        if self.ways:
            head = self.tasks * 6 * self.query * self.ways * _features(self.network)
            samples = self.tasks * (self.support + self.query)
            return head + (samples * (3 * sum(layers) - layers[0]) if layers else 0)
        first, all_layers = layers[0], sum(layers)
        gradient, tangents = 3 * all_layers - first, 6 * all_layers - 4 * first
        if part == "gradient":
            return self.query * gradient
        if part == "hvp":
            return self.query * (2 * all_layers - first + tangents)
        if self.adapt == "head":
            body, head = 3 * sum(layers[:-1]) - first, layers[-1]
            step = 2 * head + (4 * head if self.order == 2 else 0)
            samples = self.support + self.query
            return self.tasks * (samples * body + self.steps * self.support * step + self.query * 3 * head)
        step = gradient + (tangents if self.order == 2 else 0)
        return self.updates_of(part) * self.tasks * (self.steps * self.support * step + self.query * gradient)

    def bytes(self, part: str) -> int:
        """The least that any program moves in float32: parameters and data in, and the result out, once each."""
        parameters = sum(math.prod(shape) for shape in self.network.parameter_shapes)
        samples = self.tasks * (self.support + self.query)
        values = samples * math.prod(self.network.input_shape)
        targets = samples * (1 if self.labelled else max(self.network.outputs, 1))
        vectors = 3 if part == "hvp" else 2
        result = values if self.kind == "head" else 0
        return 4 * (vectors * parameters + values + targets + result)


def _features(network: Network) -> int:
    assert not isinstance(network, MLP)
    return network.features


_COMPILED = ("inductor", "jax")


def _sinusoid(
    name: str, title: str, tasks: int, steps: int, order: int = 2, width: int = 40, target: Target = Target()
) -> Workload:
    network = MLP((1, width, width, 1))
    return Workload(
        name,
        title,
        network,
        tasks=tasks,
        support=10,
        query=10,
        steps=steps,
        inner_lr=0.01,
        order=order,
        target=target,
        best=_COMPILED,
    )


_OMNIGLOT = Conv4((28, 28, 1), 64, 5, "stride")
_EMBEDDING = Conv4((28, 28, 1), 64, 0, "pool")


def _omniglot(query: int, steps: int, times: float) -> Workload:
    title = f"Omniglot Conv4-64, 32 tasks, {query} queries, {steps} step{'s' * (steps > 1)}"
    name = f"omniglot-q{query}-s{steps}"
    return Workload(
        name, title, _OMNIGLOT, tasks=32, support=5, query=query, steps=steps, inner_lr=0.4, target=Target(times)
    )


def _updates(steps: int) -> Workload:
    row = _sinusoid(f"updates-25x{steps}", "", 25, steps, target=Target(3))
    title = f"1,000 updates by Adam: sinusoid, 25 tasks x {steps} step{'s' * (steps > 1)}, drawing included"
    return replace(row, title=title, parts=(DRAWING, "given"), updates=1000, best=("jax",))


_HVP = ("hvp", "gradient")
_ROWS = (
    _sinusoid("sinusoid-25x1", "sinusoid, 25 tasks x 1 step", 25, 1, target=Target(5)),
    _sinusoid("sinusoid-25x5", "sinusoid, 25 tasks x 5 steps", 25, 5, target=Target(5)),
    _sinusoid("sinusoid-1000x1", "sinusoid, 1000 tasks x 1 step", 1000, 1, target=Target(3.5)),
    _sinusoid("sinusoid-1000x5", "sinusoid, 1000 tasks x 5 steps", 1000, 5, target=Target(5)),
    _sinusoid("sinusoid-1000x1-first-order", "sinusoid, 1000 x 1, first order", 1000, 1, order=1, target=Target(3.5)),
    _updates(1),
    _updates(5),
    _omniglot(5, 1, 3.5),
    _omniglot(5, 5, 3.5),
    _omniglot(75, 1, 3),
    _omniglot(75, 5, 3.5),
    Workload(
        "miniimagenet-s5",
        "miniImageNet Conv4-32 pool, 2 tasks, 75 queries, 5 steps",
        Conv4((84, 84, 3), 32, 5, "pool"),
        tasks=2,
        support=5,
        query=75,
        steps=5,
        inner_lr=0.01,
        target=Target(5),
        best=("learn2learn", "jax"),
    ),
    Workload(
        "anil-omniglot",
        "ANIL, Omniglot Conv4-64, 32 tasks, 75 queries, 5 steps",
        _OMNIGLOT,
        tasks=32,
        support=5,
        query=75,
        steps=5,
        inner_lr=0.4,
        adapt="head",
        target=Target(3),
    ),
    Workload(
        "protonet-60way-5shot",
        "ProtoNet Conv4-64 pool, 60-way 5-shot, 5 queries",
        _EMBEDDING,
        ("gradient",),
        support=300,
        query=300,
        ways=60,
        target=Target(4),
        best=_COMPILED,
    ),
    Workload(
        "protonet-20way-1shot",
        "ProtoNet Conv4-64 pool, 20-way 1-shot, 15 queries",
        _EMBEDDING,
        ("gradient",),
        support=20,
        query=300,
        ways=20,
        target=Target(4),
        best=_COMPILED,
    ),
    Workload(
        "prototypes-60way",
        "prototype head, D=64, 60-way 5-shot, 5 queries",
        Embeddings(64),
        ("gradient",),
        support=300,
        query=300,
        ways=60,
        target=Target(3),
        best=_COMPILED,
    ),
    Workload(
        "prototypes-100-episodes",
        "prototype head, D=1600, 100 x 5-way 5-shot, 75 queries",
        Embeddings(1600),
        ("gradient",),
        tasks=100,
        support=25,
        query=75,
        ways=5,
        target=Target(6),
    ),
    Workload(
        "hvp-mlp",
        "HVP of MLP 784-256-256-10, batch 100",
        MLP((784, 256, 256, 10)),
        _HVP,
        query=100,
        target=Target(1.5, gradients=2),
        best=_COMPILED,
    ),
    Workload(
        "hvp-omniglot", "HVP of Omniglot Conv4-64, batch 25", _OMNIGLOT, _HVP, query=25, target=Target(3, gradients=2)
    ),
    Workload(
        "fresh-process",
        "fresh process: import, load, adapt 5 steps, predict",
        MLP((1, 40, 40, 1)),
        ("process",),
        support=10,
        query=100,
        steps=5,
        inner_lr=0.01,
        target=Target(ms=150),
        best=("numpy", "jax"),
    ),
)
WORKLOADS = {workload.name: workload for workload in _ROWS}

TRAINING = replace(
    WORKLOADS["omniglot-q5-s1"],
    name="training",
    title="MAML on Omniglot 5-way 1-shot: Conv4-64, 32 tasks, 5 queries, 1 step, Adam",
    parts=("training",),
    updates=40,
)

_FEW_IMAGES = replace(WORKLOADS["omniglot-q5-s1"], tasks=4, title="Omniglot Conv4-64, 4 tasks, 5 queries")

# curve -> its value -> workload; the curve "threads" changes the number of threads of the same workloads
CURVES: dict[str, dict[int, Workload]] = {
    "tasks": {
        n: _sinusoid(f"curve-tasks-{n}", "sinusoid, 1 step", n, 1) for n in (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
    },
    "steps": {n: _sinusoid(f"curve-steps-{n}", "sinusoid, 25 tasks", 25, n) for n in (1, 3, 10, 30, 100)},
    "image-steps": {n: replace(_FEW_IMAGES, name=f"curve-image-steps-{n}", steps=n) for n in (1, 3, 10, 30, 100)},
    "width": {
        n: _sinusoid(f"curve-width-{n}", "MLP 1-w-w-1, 100 tasks, 1 step", 100, 1, width=n)
        for n in (10, 20, 40, 80, 160, 320, 640)
    },
}


def find(name: str) -> Workload | None:
    """The workload of a row, of a curve's point or of `training_time`."""
    points = {workload.name: workload for curve in CURVES.values() for workload in curve.values()}
    return (WORKLOADS | points | {TRAINING.name: TRAINING}).get(name)
