"""Which of two learners is better on the same episodes: the paired difference and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmeta.floating import quiet
from fastmeta.scores.score import Score


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """Score minus baseline, episode by episode; what both find hard cancels, so that the interval is narrow.

    `ci95` is half the 95 % interval of the mean over tasks, 1.96 * std / sqrt(episodes). It says nothing about
    other seeds of the training. Episodes on which either diverged are left out; `diverged` counts them.
    """

    values: NDArray[np.float64]  # (episodes,) what the score measures less that of the baseline
    measure: str
    diverged: int = 0

    @property
    @quiet
    def mean(self) -> float:
        """Mean over episodes, in [-1, 1] for accuracies and areas, or in squared target units."""
        return float(self.values.mean())

    @property
    @quiet
    def ci95(self) -> float:
        """Half the 95 % interval of the mean."""
        return 1.96 * float(self.values.std()) / math.sqrt(len(self.values))

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.ci95

    def __str__(self) -> str:
        left_out = f" ({self.diverged} diverged)" if self.diverged else ""
        if self.measure in ("accuracy", "auc"):
            return f"{100 * self.mean:+.2f} points ± {100 * self.ci95:.2f}{left_out}"
        decimals = max(2, -math.floor(math.log10(self.ci95))) if self.ci95 else 2
        return f"{self.mean:+.{decimals}f} ± {self.ci95:.{decimals}f}{left_out}"

    def __repr__(self) -> str:
        return f"<difference in {self.measure} {self} (95 % over {len(self.values)} paired episodes)>"


@quiet
def compare(score: Score, baseline: Score) -> Difference:
    """The paired difference of two scores on the same episodes, whatever the algorithms.

    Raises ValueError where the scores are of different episodes or measures, or no episode is left in which
    neither diverged; TypeError where one is no score.

    >>> a, b = (Score(np.array(v), stream="1f") for v in ([0.9, 0.8, 1.0], [0.8, 0.8, 0.9]))
    >>> print(compare(a, b))
    +6.67 points ± 5.33
    """
    for name, given in (("score", score), ("baseline", baseline)):
        if not isinstance(given, Score):
            raise TypeError(f"{name}={given!r} must be one Score, such as evaluate(...) or evaluate(...)[5] gives.")
    if score.measure != baseline.measure:
        raise ValueError(f"score is {score.measure} but baseline is {baseline.measure}. Compare scores of one problem.")
    if not score.stream or score.stream != baseline.stream or len(score.values) != len(baseline.values):
        own = ""
        if len(score.values) == len(baseline.values):
            own = " If they were, a source of your own draws others at each call: make its generator there."
        described = (f'stream "{s.stream}", {len(s.values)} episodes' for s in (score, baseline))
        raise ValueError(
            f"score and baseline must be of the same episodes, not {' and '.join(described)}. Evaluate both on the "
            f"same tasks with the same seed and number of episodes.{own}"
        )
    both = np.isfinite(score.values) & np.isfinite(baseline.values)
    if not both.any():
        raise ValueError("score and baseline must have a finite episode in common. Compare others.")
    return Difference(score.values[both] - baseline.values[both], score.measure, int((~both).sum()))
