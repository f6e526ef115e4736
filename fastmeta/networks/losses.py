"""Losses: frozen descriptions that say which targets they take, what they are scored by and what kernels compute."""

from __future__ import annotations

from typing import Any, ClassVar

from fastmeta import checks
from fastmeta.record import Record
from fastmeta_kernels import contract
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import Array


class Loss(Record):
    """What outputs are compared with targets by: a mean over samples, and over outputs where targets have them."""

    number: ClassVar[int]  # in fastmeta_kernels.layer_table
    measure: ClassVar[str] = "mse"  # what an evaluation scores, a measure of fm.Score

    @property
    def labelled(self) -> bool:
        """Whether targets are integer labels (N,), one a sample, and not floats (N, O)."""
        return self.number in lt.LABELLED

    @property
    def kernel(self) -> contract.Loss:
        """The loss as the kernels read it."""
        return contract.Loss(self.number, tuple(map(float, self._asdict().values())))

    def check(self, name: str, y: Array, lead: tuple[int, ...], outputs: int | None = None, net: object = "") -> None:
        """Raise where targets y are not those of samples of shape `lead`, (N,) or (T, N), and of as many outputs.

        None: any number of outputs.
        """
        if y.dtype.kind not in ("iu" if self.labelled else "f"):
            wanted = "integer labels" if self.labelled else "floats"
            raise TypeError(f"{name} of dtype {y.dtype} must be {wanted} for the loss {self}. Convert them.")
        if self.labelled:
            if y.shape != lead:
                raise ValueError(f"{name} of shape {y.shape} must hold one label a sample: {lead}.")
            if outputs is not None:
                _check_labels(y, outputs)
        elif y.shape[:-1] != lead or outputs not in (None, y.shape[-1]):
            wanted = f"({', '.join(map(str, (*lead, outputs or 'outputs')))})"
            advice = (
                "Use integers for labels. Targets of one output are y[..., None]."
                if y.shape == lead
                else f"{self} takes a target for each output."
            )
            raise ValueError(f"{name} of shape {y.shape} must be {wanted}{f' for {net}' if net else ''}. {advice}")

    def to_dict(self) -> dict[str, Any]:
        """The loss as plain JSON values; `from_dict` is its inverse."""
        return {"loss": type(self).__name__} | self._asdict()


class SquaredError(Loss):
    """Mean squared error (z - y)^2 of outputs z and float targets y (N, O)."""

    number: ClassVar[int] = lt.SQUARED_ERROR


class CrossEntropy(Loss):
    """Cross-entropy -log softmax(z)_y of logits z (N, O) and integer labels y (N,) in 0 .. O-1."""

    number: ClassVar[int] = lt.CROSS_ENTROPY
    measure: ClassVar[str] = "accuracy"


class Huber(Loss):
    """e^2 / 2 where |e| <= delta, e = z - y, else delta (|e| - delta / 2), of outputs z and float targets y (N, O).

    Far targets pull with the slope delta and no more; delta is in the targets' units (Huber 1964). Scored, as
    SquaredError is, by the mean squared error.
    """

    delta: float = 1.0
    number: ClassVar[int] = lt.HUBER

    def __post_init__(self) -> None:
        checks.settle(self, delta=checks.positive("delta", self.delta))


class PolicyLoss(Loss):
    """Mean of weight * psi(log probability) of actions y, weights being advantages.

    policy="categorical": outputs are logits, y integers (N,). "gaussian": outputs are A means and A log standard
    deviations, y floats (N, A); the log density is a sum over A. surrogate: "log", psi = -l (REINFORCE); "ratio",
    -exp(l - l0), where l0 are the `log_probs` that are given beside y; "clip", PPO's, which counts no ratio beyond
    1 +- clip (Schulman et al. 2017, arXiv 1707.06347, equation 7); "kl", the mean KL(old || new), y the old outputs.
    """

    policy: str = "categorical"
    surrogate: str = "log"
    clip: float = 0.2
    number: ClassVar[int] = lt.POLICY
    measure: ClassVar[str] = "return"

    def __post_init__(self) -> None:
        checks.choice("policy", self.policy, lt.POLICIES)
        checks.choice("surrogate", self.surrogate, lt.SURROGATES)
        checks.settle(self, clip=checks.positive("clip", self.clip))

    @property
    def labelled(self) -> bool:
        return self.policy == "categorical" and self.surrogate != "kl"

    @property
    def has_ratio(self) -> bool:
        """Whether it takes log_probs."""
        return self.surrogate in ("ratio", "clip")

    @property
    def kernel(self) -> contract.Loss:
        places = lt.POLICIES.index(self.policy), lt.SURROGATES.index(self.surrogate)
        return contract.Loss(self.number, (*map(float, places), self.clip))

    def check(self, name: str, y: Array, lead: tuple[int, ...], outputs: int | None = None, net: object = "") -> None:
        if self.policy == "gaussian" and outputs is not None and outputs % 2:
            raise ValueError(
                f"{net} has {outputs} outputs; a gaussian policy has a mean and a log deviation an action."
            )
        actions = self.policy == "gaussian" and self.surrogate != "kl"
        super().check(name, y, lead, outputs // 2 if actions and outputs is not None else outputs, net)


LOSSES: dict[str, type[Loss]] = {loss.__name__: loss for loss in (SquaredError, CrossEntropy, Huber, PolicyLoss)}


_SQUARED_ERROR, _CROSS_ENTROPY = SquaredError(), CrossEntropy()  # what targets mean


def from_dict(data: dict[str, Any]) -> Loss:
    """A loss from what `to_dict` gave; ValueError where it is unknown."""
    arguments = dict(data)
    return LOSSES[checks.choice("loss", arguments.pop("loss"), LOSSES)](**arguments)


def checked(loss: Any) -> Loss | None:
    """`loss`, or TypeError where it is no loss."""
    if loss is None or isinstance(loss, Loss):
        return loss
    raise TypeError(
        f"loss={loss!r} must be fm.SquaredError(), fm.CrossEntropy(), fm.Huber(delta) or None. A function is no "
        "loss, because both of its derivatives are needed: docs/howto/extend.md says how to add a loss."
    )


def of(loss: Loss | None, y: Array, name: str = "y") -> Loss:
    """`loss`, or where it is None what targets y mean: cross-entropy of integers, squared error of floats."""
    found = checked(loss)
    if found is not None:
        return found
    if y.dtype.kind not in "fiu":
        raise TypeError(f"{name} of dtype {y.dtype} must be integer labels or float targets.")
    return _SQUARED_ERROR if y.dtype.kind == "f" else _CROSS_ENTROPY


def _check_labels(labels: Array, ways: int) -> None:
    low, high = labels.min(), labels.max()
    if low < 0 or high >= ways:
        wrong = low if low < 0 else high
        raise ValueError(f"labels must be 0 .. ways-1; got {wrong} with a network of {ways} outputs.")
