"""Published results, trained for real: minutes to an hour each, run by hand with `pytest -m slow`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fastmeta as fm

ROOT = Path(__file__).resolve().parents[1]
OMNIGLOT = ROOT.parent / "shared" / "omniglot"


@pytest.mark.slow
def test_sinusoid_of_the_paper_after_one_step():
    """arXiv 1703.03400, table 2: 0.67 on 5-shot tasks after one step; benchmarks/results has all steps and seeds."""
    tasks = fm.tasks.Sinusoid(shots=10, queries=10)
    maml = fm.MAML(fm.MLP((1, 40, 40, 1)), inner_lr=0.01, inner_steps=1).fit(tasks, 70_000)
    scores = maml.evaluate(replace(tasks, shots=5, queries=100), episodes=600, inner_steps=[0, 1])
    assert scores[1].mean <= 0.67 < scores[0].mean


@pytest.mark.slow
@pytest.mark.skipif(not OMNIGLOT.exists(), reason="the Omniglot archives are not beside the repository")
def test_omniglot_5_way_1_shot_reaches_97_percent():
    omniglot = fm.tasks.Omniglot(OMNIGLOT, ways=5, shots=1, queries=1)
    maml = fm.MAML(fm.Conv4(), inner_lr=0.4, inner_steps=1).fit(omniglot.train, 16_000, tasks_per_step=32)
    assert maml.evaluate(replace(omniglot.test, queries=15), episodes=1000, inner_steps=3).mean >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("vector_bytes", ["16", "32"])
def test_narrower_vectors_give_the_reference_too(vector_bytes):
    """The kernels of a machine without AVX-512 (32) or AVX (16), compiled here."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "tests/kernels/test_backends.py",
        "tests/kernels/cpu/test_cpu.py",
    ]
    environment = os.environ | {"FASTMETA_VECTOR_BYTES": vector_bytes}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
