"""What docs/howto/scikit_learn.md says of scikit-learn's checks, where scikit-learn is installed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.learning.learner import Learner

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "scikit_learn.md").read_text("utf-8")


@pytest.fixture
def base():
    yield pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
    Learner.algorithms.pop("Tagged", None)


def test_the_checks_that_fail_are_those_of_the_page(base):
    from sklearn.utils.estimator_checks import check_estimator

    class Tagged(fm.MAML, base.BaseEstimator):
        """A MAML with the tags of an estimator."""

        def __init__(self, net, inner_lr=0.01, inner_steps=1, device="numpy"):
            super().__init__(net, inner_lr, inner_steps, device=device)

    with pytest.raises(AttributeError, match="has no attribute '__sklearn_tags__'"):
        check_estimator(fm.MAML(fm.MLP((4, 8, 3)), device="numpy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(Tagged(fm.MLP((4, 8, 3))), on_fail=None, on_skip=None)
    failed = {check["check_name"] for check in found if check["status"] == "failed"}
    passed = {check["check_name"] for check in found if check["status"] == "passed"}
    named = set(re.findall(r"`(check_(?!estimator`)\w+)`", PAGE))
    assert named <= failed
    for check in found:
        if check["status"] == "failed" and check["check_name"] not in named:
            calls = f"{check['exception']} {check['exception'].__cause__} {check['exception'].__context__}"
            assert re.search(r"iterations|fit\(|[Ff]it|sparse|empty data|X\.", calls), check
    assert {"check_estimator_cloneable", "check_estimator_repr", "check_get_params_invariance"} <= passed


def test_an_adapted_model_is_an_estimator_in_seven_lines(base, tmp_path):
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    program = next(block for block in re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    names = {"ClassifierMixin": base.ClassifierMixin, "BaseEstimator": base.BaseEstimator, "np": np, "fm": fm}
    exec(program.split("cross_val_score(")[0], names)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 20)
    x = rng.normal(size=(12, 6))[labels] + 0.3 * rng.normal(size=(240, 6))
    tasks = fm.tasks.from_arrays(x[labels < 9], labels[labels < 9], ways=3, shots=5, queries=5)
    maml = fm.MAML(fm.MLP((6, 16, 3)), 0.3, 3, device="numpy").fit(tasks, 100, 4)
    maml.save(tmp_path / "mine.safetensors")
    new = labels >= 9
    things = np.array(["cup", "door", "hat"])[labels[new] - 9]
    scores = cross_val_score(names["FewShot"](tmp_path / "mine.safetensors"), x[new], things, cv=StratifiedKFold(3))
    assert scores.mean() > 0.7  # chance is a third
