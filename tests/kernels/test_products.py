"""Products whose passes are kept: the bits of those that begin anew, along one direction after another."""

import numpy as np
import pytest

from fastmeta_kernels import cpu, reference
from fastmeta_kernels.cpu.execution import kept
from tests.cases import CASES
from tests.gradcheck import relative
from tests.kernels.agreement import sets
from tests.kernels.test_policies import _make


def _directions(theta, tasks, count=3):
    return np.random.default_rng(1).standard_normal((count, tasks, theta.shape[-1])).astype(theta.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hessian_products_have_the_bits_of_hvp(backend, case, dtype):
    table = case.network.table
    theta, support, _ = sets(case, dtype, weighted=True)
    at = np.tile(theta, (case.tasks, 1))
    product = backend.products("hvp", table, at, support)
    for v in _directions(theta, case.tasks):
        assert np.array_equal(product(v), backend.hvp(table, at, v, support))


@pytest.mark.parametrize("threads", ["1", "2", "4"])
@pytest.mark.parametrize(("policy", "surrogate"), [("gaussian", "ratio"), ("categorical", "log"), ("gaussian", "kl")])
@pytest.mark.parametrize("kind", ["hvp", "fisher"])
def test_policies_for_any_number_of_threads(monkeypatch, kind, policy, surrogate, threads):
    monkeypatch.setenv("FASTMETA_NUM_THREADS", threads)
    net, theta, _, data = _make(policy, surrogate, dtype="float32", samples=2000)
    product = cpu.products(kind, net.table, theta, data)
    other = cpu.products(kind, net.table, -theta, data)  # another theta's passes lie elsewhere
    for v in _directions(theta, len(theta)):
        other(v)
        assert np.array_equal(product(v), getattr(cpu, kind)(net.table, theta, v, data))


def test_what_would_keep_too_much_begins_anew(monkeypatch):
    net, theta, v, data = _make("gaussian", "ratio")
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    assert np.array_equal(cpu.products("hvp", net.table, theta, data)(v), cpu.hvp(net.table, theta, v, data))


def test_passes_are_made_once(monkeypatch):
    """After the first product observations are read no more."""
    monkeypatch.setenv("FASTMETA_NUM_THREADS", "1")
    net, theta, v, data = _make("categorical", "kl")
    product = cpu.products("fisher", net.table, theta, data)
    first = product(v)
    data.x[...] = np.nan
    assert np.array_equal(product(v), first)


@pytest.mark.parametrize("kind", ["hvp", "fisher"])
def test_parts_of_a_task_are_its_samples(backend, kind):
    net, theta, v, data = _make("gaussian", "ratio", weighted=True, samples=12)
    parts = data._replace(
        **{
            name: (whole := getattr(data, name)).reshape(-1, 4, *whole.shape[2:])
            for name in ("x", "y", "weights", "log_probs")
        }
    )
    product = backend.products(kind, net.table, theta, parts)
    for along in (v, 2 - v):
        assert relative(product(along), getattr(reference, kind)(net.table, theta, along, data)) <= 1e-12
