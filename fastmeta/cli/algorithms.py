"""The algorithms of the command line: every public learner that needs no more than a network, by its word."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import fastmeta as fm
from fastmeta.learning.learner import Learner


def _public() -> Iterator[type[Learner]]:
    for thing in (getattr(home, name) for home in (fm, fm.rl) for name in home.__all__):
        if isinstance(thing, type) and issubclass(thing, Learner) and not inspect.isabstract(thing):
            _, *others = inspect.signature(thing).parameters.values()
            if all(argument.default is not argument.empty for argument in others):
                yield thing


ALGORITHMS: dict[str, type[Learner]] = {kind.word: kind for kind in sorted(_public(), key=lambda kind: kind.word)}
BATCH_NORMS = tuple(dict.fromkeys(mode for kind in ALGORITHMS.values() for mode in kind.batch_norm_modes))
AT_EVALUATION = {name: kind for kind in ALGORITHMS.values() for name in kind.evaluation_settings}


def share_head_of(learner: Any) -> None:
    """Let all classes of an ANIL begin from one weight and bias; ValueError for other learners."""
    if not isinstance(learner, fm.ANIL):
        raise ValueError(f"share_head must be left out: {type(learner).__name__} is not ANIL.")
    learner.share_head()
