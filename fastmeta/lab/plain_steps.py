"""Which learners the instruments can look at: those whose inner steps are gradient descent on theta alone."""

from __future__ import annotations

from typing import Any

from fastmeta.learning.gradient_learner import GradientLearner

OTHER = {"proximal": "inner", "step_norms": True}  # settings with which a learner's own `descend` takes other steps


def plain_steps(learner: Any) -> GradientLearner:
    """The learner, whose inner loop the functional layer repeats.

    Raises TypeError where it takes other steps, ValueError where its query loss is not the functional layer's.
    """
    if not isinstance(learner, GradientLearner):
        raise TypeError(f"learner={learner!r} must adapt by gradient steps on samples, as fm.MAML does.")
    own = type(learner).descend is not GradientLearner.descend
    told = [getattr(learner, name) != other for name, other in OTHER.items() if hasattr(learner, name)]
    if own and not any(told):
        raise TypeError(
            f"learner={learner!r} must take plain gradient steps on its parameters, as fm.MAML does: its own (another "
            "inner optimizer, a proximal term, norms of each step) are none that the instruments repeat. Give "
            "fm.lab.trace and the others its net and theta to look at plain steps from there."
        )
    if learner.query_batch_norm == "frozen":
        raise ValueError(
            'query_batch_norm="frozen" is not what the instruments have: their query loss is transductive. Give '
            "fm.lab.trace and the others the learner's net and theta to look at that."
        )
    return learner
