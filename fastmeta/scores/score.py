"""What an evaluation says: a mean over episodes, with how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmeta import checks
from fastmeta.floating import quiet
from fastmeta.scores import confusion as confusions
from fastmeta.scores.answers import Answers
from fastmeta.scores.confusion import ClassAccuracies, Confusion

MEASURES = ("accuracy", "auc", "mse")  # of labels and targets; a policy is scored by its "return"


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """One value an episode: the share of right labels ("accuracy"), the area under the ROC curve ("auc"), the mean
    squared error ("mse") or the mean return of its trajectories ("return": higher is better, in the reward's unit).

    `ci95` is half the 95 % interval of the mean over tasks, 1.96 * std / sqrt(episodes), where std is over
    the episodes' values (divided by n, as in the MAML code). `batch_norm` says whose statistics batch norm
    used: "transductive", those of the batch at hand, query set included; "support", those of the support set and
    the one sample that is predicted; "running", running means of training; "inductive", those of the training
    samples; "" where the network has none. `stream` names the episodes by a hash of their bits, "" where it is not
    known: scores of one stream can be compared episode by episode, whatever the algorithm. `answers` count what the
    query samples were called, where the tasks know their classes: `confusion` and `per_class` read them.

    An episode whose adaptation diverged has no finite value: `diverged` counts them, mean, std and ci95 leave
    them out, and the text says so.

    >>> print(Score(np.array([1.0, 0.8, 0.9, 0.9])))
    90.00 % ± 6.93
    """

    values: NDArray[np.float64]  # (episodes,)
    measure: str = "accuracy"
    batch_norm: str = ""
    stream: str = ""
    answers: Answers | None = None

    def __post_init__(self) -> None:
        values = np.array(checks.array("values", self.values), np.float64)
        if values.ndim != 1 or not values.size:
            raise ValueError(f"values of shape {values.shape} must be (episodes,), at least one.")
        if not np.isfinite(values).any():
            raise ValueError("values must hold at least one finite number; every episode diverged.")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        checks.choice("measure", self.measure, (*MEASURES, "return"))

    @property
    def finite(self) -> NDArray[np.float64]:
        """The values of the episodes that did not diverge."""
        return self.values[np.isfinite(self.values)]

    @property
    def diverged(self) -> int:
        """How many episodes diverged."""
        return len(self.values) - len(self.finite)

    @property
    @quiet
    def mean(self) -> float:
        """Mean over episodes: accuracy or area in [0, 1], mean squared error in squared target units, or return."""
        return float(self.finite.mean())

    @property
    @quiet
    def median(self) -> float:
        """Median over all episodes, those that diverged as the worst."""
        worst = {"mse": np.inf, "return": -np.inf}.get(self.measure, 0.0)
        return float(np.median(np.where(np.isfinite(self.values), self.values, worst)))

    @property
    @quiet
    def std(self) -> float:
        """Standard deviation over episodes."""
        return float(self.finite.std())

    @property
    def ci95(self) -> float:
        """Half the 95 % interval of the mean, in the mean's unit."""
        return 1.96 * self.std / math.sqrt(len(self.finite))

    def confusion(self) -> Confusion:
        """Which classes were taken for which: `names`, `counts` (C, C) of class i called j, `rates` and a `table()`.

        Raises ValueError where the classes are not known.
        """
        return confusions.confusion(self._known_answers())

    def per_class(self) -> ClassAccuracies:
        """The accuracy of each class: `names`, `means` (C,) with their `ci95` (C,), and `table()`, the worst first.

        Raises ValueError where the classes are not known.
        """
        return confusions.class_accuracies(self._known_answers())

    def _known_answers(self) -> Answers:
        if self.answers is None:
            raise ValueError(
                f"a score of {self.measure} must know the classes of its episodes, which it does not. Evaluate on "
                "tasks that do, such as fm.tasks.from_arrays(x, y); a score made of its values alone has none."
            )
        return self.answers

    def __str__(self) -> str:
        return self._interval() + (f" ({self.diverged} diverged)" if self.diverged else "")

    def _interval(self) -> str:
        if self.measure in ("accuracy", "auc"):
            return f"{100 * self.mean:.2f} % ± {100 * self.ci95:.2f}"
        if max(abs(self.mean), self.ci95) >= 1e4:
            return f"{self.mean:.3g} ± {self.ci95:.2g}"
        # two decimals, or as many as the interval's first digit needs
        decimals = max(2, -math.floor(math.log10(self.ci95))) if self.ci95 else 2
        return f"{self.mean:.{decimals}f} ± {self.ci95:.{decimals}f}"

    def __repr__(self) -> str:
        norm = f", batch norm {self.batch_norm}" if self.batch_norm else ""
        stream = f" of stream {self.stream}" if self.stream else ""
        return f"<{self.measure} {self} (95 % over {len(self.values)} episodes{stream}{norm})>"
