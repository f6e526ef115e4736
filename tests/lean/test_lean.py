"""Without Numba everything that a deployment needs runs, and a cold adaptation imports little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).with_name("without_numba.py")
PRINT_KERNELS = "from fastmeta_kernels import library; print('its kernels' if library.loaded() else 'NumPy')"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory) -> Path:
    """Two checkpoints, and what they predict with NumPy."""
    folder = tmp_path_factory.mktemp("deployed")
    sine = fm.MAML(fm.MLP((1, 16, 1)), 0.01, 2, device="numpy").fit(fm.tasks.Sinusoid(), 3)
    sine.save(folder / "mlp.safetensors")
    rng = np.random.default_rng(0)
    x, images = rng.uniform(-5, 5, (6, 1)), rng.random((6, 12, 12, 1)).astype(np.float32)
    labels = np.arange(6) % 3
    tasks = fm.tasks.from_arrays(rng.random((60, 12, 12, 1)), np.repeat(np.arange(6), 10), ways=3, shots=2, queries=2)
    conv = fm.MAML(fm.Conv4((12, 12, 1), 4, 3), 0.05, 2, device="numpy").fit(tasks, 2, tasks_per_step=2)
    conv.save(folder / "images.safetensors")
    made = {mode: conv.adapt(images, labels, batch_norm=mode).outputs(images) for mode in ("transductive", "frozen")}
    predicted = sine.adapt(x, np.sin(x), inner_steps=3).predict(x)
    np.savez(folder / "expected.npz", x=x, y=np.sin(x), mlp=predicted, images=images, labels=labels, **made)
    return folder


def test_a_deployment_without_numba(deployed, tmp_path):
    """With links to NumPy and safetensors in place of this environment; .ci/run makes a whole one."""
    packages = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "safetensors"):
        if (packages / name).exists():
            (tmp_path / name).symlink_to(packages / name)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "kernels")))
    environment = os.environ | {"PYTHONPATH": paths, "FASTMETA_LIBRARY": "0"}
    command = [sys.executable, "-S", str(PROGRAM), str(deployed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "without Numba: NumPy", done.stderr


@pytest.mark.skipif("FASTMETA_LEAN" not in os.environ, reason="FASTMETA_LEAN names no Python of NumPy and safetensors")
def test_in_an_environment_that_has_no_numba(deployed):
    """.ci/run makes the environment and names its Python; so does .ci/wheels, with libraries of kernels."""
    lean = os.environ["FASTMETA_LEAN"]
    absent = subprocess.run([lean, "-c", "import numba"], capture_output=True, check=False)
    assert absent.returncode != 0
    done = subprocess.run([lean, str(PROGRAM), str(deployed)], capture_output=True, text=True, check=False)
    kernels = subprocess.run([lean, "-c", PRINT_KERNELS], capture_output=True, text=True, check=True).stdout
    assert done.stdout.strip() == f"without Numba: {kernels.strip()}", done.stderr
