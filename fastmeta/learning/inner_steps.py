"""Inner steps one by one: how many were asked for, the rates of each, and which of them diverged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastmeta import checks, inputs
from fastmeta.floating import overflows
from fastmeta_kernels.contract import Array


def asked_steps(asked: Any, usual: int) -> tuple[list[int], bool]:
    """Numbers of inner steps, where None means `usual`, and whether several were asked for; ValueError of none."""
    if checks.protocols(asked):
        asked = checks.array("inner_steps", asked).tolist()
    several = isinstance(asked, Sequence)
    steps = [usual if n is None else inputs.inner_steps(n) for n in (asked if several else [asked])]
    if not steps:
        raise ValueError(f"inner_steps={asked} must not be empty. Name at least one number of steps.")
    return steps, several


def step_rates(rates: float | Array, begin: int, end: int) -> float | Array:
    """The rates of inner steps `begin` to `end`, of which there may be none; the last step's repeat behind it."""
    if not isinstance(rates, np.ndarray) or rates.ndim < 2:
        return rates
    return rates[np.minimum(np.arange(begin, max(end, begin + 1)), len(rates) - 1)]


@contextmanager
def naming_step(step: int, steps: int) -> Iterator[None]:
    """What diverges within, or overflows, says that it was at inner step `step` of `steps`."""
    try:
        with overflows():
            yield
    except (checks.DivergenceError, FloatingPointError) as error:
        cause = str(error) if isinstance(error, checks.DivergenceError) else "the update overflows."
        raise checks.DivergenceError(f"inner step {step} of {steps}: {cause} Or halve inner_lr.") from error
