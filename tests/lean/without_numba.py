"""A deployment in an environment of NumPy and safetensors only; run by test_lean.py, and alone in .ci/run.

python without_numba.py FOLDER: the folder holds mlp.safetensors and images.safetensors, and expected.npz.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

import fastmeta as fm

ALLOWED = frozenset(
    """fastmeta fastmeta.algorithms fastmeta.algorithms.maml fastmeta.checks fastmeta.device fastmeta.floating
    fastmeta.gradients fastmeta.gradients.functions fastmeta.gradients.task_sets fastmeta.inputs fastmeta.late
    fastmeta.learning fastmeta.learning.adapted_model fastmeta.learning.archive fastmeta.learning.checkpoint
    fastmeta.learning.gradient_learner fastmeta.learning.inner_steps fastmeta.learning.learned
    fastmeta.learning.learner fastmeta.learning.loading fastmeta.learning.query_norms fastmeta.learning.settings
    fastmeta.learning.states fastmeta.learning.support fastmeta.memory
    fastmeta.networks fastmeta.networks.initial fastmeta.networks.layers fastmeta.networks.losses
    fastmeta.networks.network fastmeta.record""".split()  # noqa: SIM905
)
HEAVY = ("numba", "llvmlite", "scipy", "click", "tqdm", "PIL", "matplotlib", "numpy.random", "dataclasses")
HEAVY += ("fastmeta_kernels.request", "fastmeta_kernels.calls")  # of calls that are compiled, and of training


def main(folder: str) -> None:
    """Load, adapt and predict, as a deployment does; AssertionError where it is not as with Numba."""
    expected = np.load(f"{folder}/expected.npz")
    x, y = expected["x"], expected["y"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        predicted = fm.load(f"{folder}/mlp.safetensors").adapt(x, y, inner_steps=3).predict(x)
    assert told == []
    loaded = {name for name in sys.modules if name.split(".")[0] == "fastmeta"}
    assert loaded <= ALLOWED, sorted(loaded - ALLOWED)
    assert not {name for name in sys.modules if name in HEAVY}
    np.testing.assert_allclose(predicted, expected["mlp"], atol=1e-5)  # imports more
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        learner = fm.load(f"{folder}/images.safetensors")
        for mode in ("transductive", "frozen"):
            model = learner.adapt(expected["images"], expected["labels"], batch_norm=mode)
            np.testing.assert_allclose(model.outputs(expected["images"]), expected[mode], atol=1e-4)
    from fastmeta_kernels import library

    said = [] if library.loaded() else ["Numba is not installed: "]
    assert [str(warning.message)[:24] for warning in told] == said, told
    assert not {name for name in sys.modules if name in ("numba", "llvmlite")}
    print(f"without Numba: {'its kernels' if library.loaded() else 'NumPy'}")


if __name__ == "__main__":
    main(sys.argv[1])
