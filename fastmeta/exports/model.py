"""What leaves Python of a learner: the one place that knows how each algorithm adapts.

One file of more than 200 lines, because every export reads a learner as this one description.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from fastmeta import checks, inputs
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner
from fastmeta.networks import losses
from fastmeta.networks.layers import BatchNorm
from fastmeta.networks.losses import CrossEntropy, Loss, SquaredError
from fastmeta.networks.network import Network
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array

Outputs = Callable[[Array, Array, Array], Array]
LOSSES = (CrossEntropy, SquaredError)
STORES = ("float32", "int8")
BATCH_STEPS = 50  # inner steps whose mini-batches are written down, where there are not more in training


@dataclass(frozen=True, eq=False)
class ExportModel:
    """A network with its learned parameters, and how a support set changes them.

    kind "steps": gradient steps on theta[adapted]; "prototypes": class means of the outputs, compared by `metric`.
    exact(x, y, queries) are the outputs in float64, from the parameters as they are stored.
    """

    learner: str
    net: Network
    theta: Array  # (P,) float32, what the artifact starts from
    kind: str
    outputs: int
    classifies: bool
    batch_norm: str  # "frozen", "transductive" or "running"; "" where the network has none
    samples: int
    exact: Outputs
    steps: int = 0
    rates: Array | None = None  # (1 or S, 1 or V or P) float32
    adapted: tuple[int, int] = (0, 0)
    pull: float = 0.0  # towards theta, of a proximal term
    step_norms: Array | None = None  # (S + 1, B): scales and shifts, in the order of theta
    running: Array | None = None  # (S + 1, 2, C): means and variances
    batches: Array | None = None  # (steps, B): rows of the support set
    metric: str = ""  # "euclidean", "cosine", or "centroid" of outputs of length 1
    scale: float = 1.0
    codes: Array | None = None  # (P,) int8, where parameters are stored so
    scales: Array | None = None  # (V,) float32: theta is codes times the scale of each array
    moved: float = 0.0  # how far a float64 theta was rounded, at most

    @property
    def hash(self) -> str:
        """SHA-256 of everything that decides what the artifact computes, in hexadecimal."""
        digest = hashlib.sha256(repr(self.net.to_dict()["layers"]).encode())
        plain = (self.kind, self.outputs, self.classifies, self.batch_norm, self.steps, self.adapted, self.pull)
        digest.update(repr((*plain, self.metric, self.scale, self.samples, self.net.input_shape)).encode())
        for values in (self.theta, self.rates, self.step_norms, self.running, self.batches):
            digest.update(b"" if values is None else repr(values.shape).encode() + values.tobytes())
        return digest.hexdigest()


def export_model(
    learner: Learner,
    samples: int,
    ways: int | None = None,
    loss: Loss | None = None,
    store: str = "float32",
    batch_norm: str | None = None,
) -> ExportModel:
    """What `fm.export` writes of a trained learner; ValueError where it cannot leave Python."""
    check_learner(learner)
    checks.integer("samples", samples, 1)
    checks.choice("store", store, STORES)
    for name, values in learner.parameters.items():
        checks.finite(name, values)
    name = type(learner).__name__
    if isinstance(learner, GradientLearner):
        if ways is not None:
            raise ValueError(f"ways={ways} must be left out: {name} has as many classes as its network has outputs.")
        return _steps(learner, samples, _loss(learner, loss), store, batch_norm)
    makers = {"ProtoNet": _protonet, "Transfer": _transfer}
    if name not in makers:
        raise ValueError(f"learner={name} must be a gradient learner, ProtoNet or Transfer: others cannot be exported.")
    if loss is not None:
        raise ValueError(f"loss={loss} must be left out: {name} classifies.")
    if ways is None:
        raise ValueError(f"ways=None must be the most classes of a task. Give ways=5 to {name}.")
    return makers[name](learner, samples, checks.integer("ways", ways, 2), store, batch_norm)


def check_learner(learner: Any) -> None:
    """Raise where no settings make an export of it: TypeError for what is no learner, ValueError for policies."""
    if not isinstance(learner, Learner):
        raise TypeError(f"learner={learner!r} must be a learner, such as fm.load(path).")
    if learner.network_outputs == "policy":
        raise ValueError(
            f"learner={learner.family}{type(learner).__name__} must be of samples, not of policies: these adapt on "
            "trajectories, exported files do not. Adapt by learner.adapt(trajectories): model.act needs NumPy only; "
            "and model.theta is all that a program of your own needs of a task."
        )


def _loss(learner: GradientLearner, loss: Loss | None) -> Loss:
    """The learner's own loss, or the one that is given; squared error for one output, which can be no class."""
    found = losses.checked(learner.loss or loss) or (SquaredError() if learner.net.outputs == 1 else None)
    if found is None:
        raise ValueError(
            "loss=None must be fm.CrossEntropy() (labels) or fm.SquaredError() (targets) for more than one output."
        )
    if loss not in (None, found) or not isinstance(found, LOSSES):
        wanted = f"that of the learner, {found}" if isinstance(found, LOSSES) else "CrossEntropy or SquaredError"
        raise ValueError(f"loss={loss or found} must be {wanted}, to be exported.")
    return found


def _steps(learner: GradientLearner, samples: int, loss: Loss, store: str, batch_norm: str | None) -> ExportModel:
    net, parameters = learner.net, learner.parameters
    mode = learner.batch_norm_mode(batch_norm or ("frozen" if learner.batch_norm else None))
    if mode == "support":
        raise ValueError(
            'batch_norm="support" must be "frozen" to be exported: it needs the support set at each query.'
        )
    rates = np.atleast_2d(np.asarray(learner.rates, np.float32))
    theta, codes, scales = _stored(net, learner.theta, store)
    made = ExportModel(
        learner=str(learner),
        net=net,
        theta=theta,
        kind="steps",
        outputs=net.outputs,
        classifies=loss.labelled,
        batch_norm=mode,
        samples=samples,
        exact=_exact(learner, theta, mode),
        steps=learner.inner_steps,
        rates=rates,
        adapted=inputs.adapted_range(net, learner.adapts),
        codes=codes,
        scales=scales,
        moved=_rounded(learner.theta),
    )
    descend, name = type(learner).descend, type(learner).__name__
    if descend is GradientLearner.descend:
        return made
    if name == "MAMLPlusPlus":
        norms, running = parameters.get("norms"), parameters.get("statistics") if mode == "running" else None
        return replace(made, step_norms=_single(norms), running=_single(running))
    if name == "iMAML":
        inner = getattr(learner, "proximal") == "inner"  # noqa: B009
        return replace(made, pull=getattr(learner, "regularization")) if inner else made  # noqa: B009
    if name == "Reptile":
        return replace(made, batches=_reptile_batches(learner, samples))
    raise ValueError(f"learner={name} must take plain inner steps to be exported; it has a descend of its own.")


def _reptile_batches(learner: Any, samples: int) -> Array | None:
    from fastmeta.algorithms.reptile import mini_batches

    if learner.inner_optimizer != "sgd":
        raise ValueError(
            f'inner_optimizer="{learner.inner_optimizer}" must be "sgd" for a Reptile that is exported. Train it so.'
        )
    if learner.inner_batch is None or learner.inner_batch >= samples:
        return None
    steps = max(learner.inner_steps, BATCH_STEPS)
    rows = mini_batches(np.random.default_rng(0), 1, samples, learner.inner_batch, steps)
    return np.asarray(rows[0], np.uint16)


def _protonet(learner: Any, samples: int, ways: int, store: str, batch_norm: str | None) -> ExportModel:
    mode = learner.batch_norm_mode(batch_norm or ("frozen" if learner.batch_norm else None))
    if mode == "transductive":
        raise ValueError('batch_norm="transductive" must be "frozen" for a ProtoNet that is exported.')
    theta, codes, scales = _stored(learner.net, learner.theta, store)
    return ExportModel(
        learner=str(learner),
        net=learner.net,
        theta=theta,
        kind="prototypes",
        outputs=ways,
        classifies=True,
        batch_norm=mode,
        samples=samples,
        exact=_exact(learner, theta, mode),
        metric=learner.metric,
        scale=learner.scale,
        codes=codes,
        scales=scales,
        moved=_rounded(learner.theta),
    )


def _transfer(learner: Any, samples: int, ways: int, store: str, batch_norm: str | None) -> ExportModel:
    from fastmeta.algorithms.transfer.heads import centroid_head, normalised

    if learner.head != "centroid":
        raise ValueError(f'head="{learner.head}" must be "centroid" for a Transfer that is exported. Set learner.head.')
    if batch_norm is not None:
        learner.batch_norm_mode(batch_norm)
    net, values = learner._features
    if any(isinstance(layer, BatchNorm) for layer in net.layers):
        raise ValueError("inductive=False must be True for a Transfer with batch norm that is exported. Train it so.")
    theta, codes, scales = _stored(net, values, store)

    def exact(x: Array, y: Array, queries: Array) -> Array:
        wide = theta.astype(np.float64)
        z, q = (normalised(net.predict(wide, a.astype(np.float64), "numpy")) for a in (x, queries))
        shares = (y[:, None] == np.arange(ways)).astype(np.float64)
        weight, bias = centroid_head(z[None], shares[None])
        found: Array = q @ weight[0] + bias[0]
        return found

    return ExportModel(
        learner=str(learner),
        net=net,
        theta=theta,
        kind="prototypes",
        outputs=ways,
        classifies=True,
        batch_norm="",
        samples=samples,
        exact=exact,
        metric="centroid",
        codes=codes,
        scales=scales,
        moved=_rounded(values),
    )


def _exact(learner: Any, theta: Array, mode: str) -> Outputs:
    """The learner itself, in float64 with the reference, from the stored theta."""
    wide = copy.copy(learner)
    wide.device, wide.any_device = "numpy", False
    values = {name: array.astype(np.float64) for name, array in learner.parameters.items()}
    values["theta"] = theta.astype(np.float64)
    wide._best = None
    wide._training = learner.training._replace(parameters=values)

    def exact(x: Array, y: Array, queries: Array) -> Array:
        targets = y if y.dtype.kind in "iu" else y.astype(np.float64)
        model = wide.adapt(x.astype(np.float64), targets, batch_norm=mode or None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # transductive statistics of few queries
            found: Array = model.outputs(queries.astype(np.float64))
        return found

    return exact


def _stored(net: Network, theta: Array, store: str) -> tuple[Array, Array | None, Array | None]:
    """theta as the artifact has it, and its codes and scales where it is stored as int8."""
    single = theta.astype(np.float32)
    if store == "float32":
        return single, None, None
    edges = lt.blocks(net.table)
    parts = [single[a:b] for a, b in pairwise(edges)]
    scales = np.array([max(np.abs(part).max() / 127, 1e-12) for part in parts], np.float32)
    codes = [
        np.clip(np.round(part / scale), -127, 127).astype(np.int8) for part, scale in zip(parts, scales, strict=True)
    ]
    back = np.concatenate([c.astype(np.float32) * s for c, s in zip(codes, scales, strict=True)])
    return back, np.concatenate(codes), scales


def _single(values: Array | None) -> Array | None:
    return None if values is None else values.astype(np.float32)


def _rounded(theta: Array) -> float:
    """The most that a float64 parameter moves when it becomes float32; 0 for float32."""
    return float(np.abs(theta - theta.astype(np.float32)).max())
