"""fm.prototype_loss: values, gradients, input of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmeta as fm
from tests.gradcheck import derivative, relative

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "proto.npz"
METRICS = ("euclidean", "cosine")


@pytest.fixture(params=["numpy", "cpu"])
def device(request):
    return request.param


def episode(ways=3, support=7, query=5, width=4, tasks=None, seed=0, dtype="float64"):
    """Shuffled, unbalanced shots; every class has at least one."""
    rng = np.random.default_rng(seed)
    lead = () if tasks is None else (tasks,)
    y = np.concatenate([np.arange(ways), rng.integers(0, ways, support - ways)])
    y = rng.permuted(np.broadcast_to(y, (*lead, support)), axis=-1)
    s, q = (rng.standard_normal((*lead, n, width)).astype("float32").astype(dtype) for n in (support, query))
    return s, y, q, rng.integers(0, ways, (*lead, query))


@pytest.mark.skipif(not REFERENCE.exists(), reason="shared/reference is not beside this repository")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_reference_arrays(device, metric, dtype, tolerance):
    data = np.load(REFERENCE)
    given = data["es"].astype(dtype), data["ys"], data["eq"].astype(dtype), data["yq"]
    scale = float(data["cosine_scale"])
    found = fm.prototype_loss(*given, metric, scale, device=device)
    for value, name in zip(found, ("loss", "ges", "geq"), strict=True):
        assert relative(value, data[f"{metric}_{name}"]) <= tolerance
    assert {a.dtype for a in found[1:]} == {np.dtype(dtype)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
@pytest.mark.parametrize("metric", METRICS)
def test_gradient_is_that_of_central_differences(metric, ways, more, query, width, seed):
    s, y_s, q, y_q = episode(ways, ways + more, query, width + (metric == "cosine"), seed=seed)
    rng = np.random.default_rng(seed)
    ds, dq = rng.standard_normal(s.shape), rng.standard_normal(q.shape)
    norm = np.sqrt((ds**2).sum() + (dq**2).sum())
    ds, dq = ds / norm, dq / norm
    shortest = min(np.linalg.norm(a, axis=-1).min() for a in (q, *[s[y_s == k].mean(0, keepdims=True) for k in y_s]))
    width_of_step = 0.04 if metric == "euclidean" else min(0.04, 0.05 * shortest)  # the cosine has a pole at 0

    def loss(e):
        return fm.prototype_loss(s + e * ds, y_s, q + e * dq, y_q, metric, device="numpy")[0]

    value, d_support, d_query = fm.prototype_loss(s, y_s, q, y_q, metric, device="numpy")
    slope = (d_support * ds).sum() + (d_query * dq).sum()
    size = np.sqrt((d_support**2).sum() + (d_query**2).sum())
    assert abs(slope - derivative(loss, width_of_step)) <= 1e-7 * max(abs(slope), size, 1e-4 * abs(value), 1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("tasks", "ways", "support", "query", "width"),
    [
        (1, 1, 1, 1, 1),
        (3, 1, 4, 3, 5),
        (2, 5, 5, 75, 63),
        (4, 7, 21, 28, 16),
        (2, 17, 33, 63, 17),
        (1, 60, 300, 300, 64),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_devices_agree(metric, tasks, ways, support, query, width, dtype, tolerance):
    given = episode(ways, support, query, width, tasks, dtype=dtype)
    wide = tuple(a.astype("float64") if a.dtype.kind == "f" else a for a in given)
    before = [a.copy() for a in given]
    ours, expected = fm.prototype_loss(*given, metric), fm.prototype_loss(*wide, metric, device="numpy")
    assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))
    for value, wanted in zip(ours, expected, strict=True):
        assert value.dtype == np.dtype(dtype)
        assert np.linalg.norm(value - wanted) <= tolerance * max(np.linalg.norm(wanted), np.linalg.norm(expected[1]))


@pytest.mark.parametrize("metric", METRICS)
def test_float32_is_accurate_far_from_the_origin(metric):
    s, y_s, q, y_q = episode(5, 25, 75, 64, dtype="float32")
    s, q = s + np.float32(30), q + np.float32(30)
    found = fm.prototype_loss(s, y_s, q, y_q, metric)
    expected = fm.prototype_loss(s.astype("float64"), y_s, q.astype("float64"), y_q, metric, device="numpy")
    for value, wanted in zip(found, expected, strict=True):
        assert relative(value, wanted) <= 3e-5


def test_a_batch_gives_each_task_its_own(device):
    s, y_s, q, y_q = episode(tasks=4)
    losses, d_support, d_query = fm.prototype_loss(s, y_s, q, y_q, device=device)
    assert losses.shape == (4,)
    for t in range(4):
        loss, ds, dq = fm.prototype_loss(s[t], y_s[t], q[t], y_q[t], device=device)
        assert isinstance(loss, float)
        assert (loss, ds.tobytes(), dq.tobytes()) == (losses[t], d_support[t].tobytes(), d_query[t].tobytes())


def test_one_task_and_many_in_turn(device):
    """They share a workspace, whose size depends on how threads divide the work."""
    s, y_s, q, y_q = episode(tasks=8, seed=1)
    for count in (1, 8, 1, 2, 8):
        losses, d_support, _ = fm.prototype_loss(s[:count], y_s[:count], q[:count], y_q[:count], device=device)
        alone = [fm.prototype_loss(s[t], y_s[t], q[t], y_q[t], device=device) for t in range(count)]
        assert losses.tolist() == [loss for loss, _, _ in alone]
        assert np.array_equal(d_support, np.stack([d for _, d, _ in alone]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("tasks", [1, 3])
def test_any_number_of_threads_gives_the_same_bits(metric, tasks, monkeypatch):
    given = episode(20, 60, 301, 17, tasks, dtype="float32")
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("FASTMETA_NUM_THREADS", threads)
        found.append([np.asarray(a).tobytes() for a in fm.prototype_loss(*given, metric)])
    assert found[0] == found[1]


@pytest.mark.parametrize("metric", METRICS)
def test_equal_points_cannot_be_told_apart(device, metric):
    ones = np.ones((4, 3))
    loss, d_support, d_query = fm.prototype_loss(ones, [0, 1, 2, 3], ones, [0, 1, 2, 3], metric, device=device)
    assert loss == pytest.approx(np.log(4), rel=1e-14)
    assert np.abs(d_query).max() <= 1e-15
    assert np.abs(d_support).max() <= 1e-15


def test_zero_vectors_have_cosine_0_and_gradient_0(device):
    s, y_s, q, y_q = episode(3, 3, 4, 5)
    s[1], q[2], q[3] = 0, 0, 1e-158  # the square of the last one is no normal number
    loss, d_support, d_query = fm.prototype_loss(s, y_s, q, y_q, "cosine", device=device)
    assert np.isfinite(loss)
    assert not d_support[1].any()
    assert not d_query[2:].any()
    assert d_support[0].any()
    alone = fm.prototype_loss(s, y_s, q[2:], y_q[2:], "cosine", device=device)[0]
    assert alone == pytest.approx(np.log(3), rel=1e-14)


def test_the_gradient_of_a_cosine_is_orthogonal_to_the_embedding(device):
    s, y_s, q, y_q = episode(4, 4, 6, 5)  # one shot: the prototype is the embedding
    _, d_support, d_query = fm.prototype_loss(s, y_s, q, y_q, "cosine", scale=3, device=device)
    assert np.abs((s * d_support).sum(axis=1)).max() <= 1e-15
    assert np.abs((q * d_query).sum(axis=1)).max() <= 1e-15


def test_euclidean_gradients_sum_to_zero_as_distances_do_not_move(device):
    s, y_s, q, y_q = episode(4, 9, 6, 5)
    _, d_support, d_query = fm.prototype_loss(s, y_s, q, y_q, device=device)
    assert np.abs(d_support.sum(axis=0) + d_query.sum(axis=0)).max() <= 1e-14


@pytest.mark.parametrize("kind", ["list", "fortran", "strided", "big_endian", "misaligned", "read_only"])
def test_arrays_of_any_layout(device, kind):
    s, y_s, q, y_q = episode()
    expected = fm.prototype_loss(s, y_s, q, y_q, device=device)
    if kind == "list":
        s, y_s, q, y_q = (a.tolist() for a in (s, y_s, q, y_q))
        expected = fm.prototype_loss(np.array(s), np.array(y_s), np.array(q), np.array(y_q), device=device)
    elif kind == "fortran":
        s, q = np.asfortranarray(s), np.asfortranarray(q)
    elif kind == "strided":
        s, y_s = np.repeat(s, 2, axis=0)[::2], np.repeat(y_s, 2)[::2]
    elif kind == "big_endian":
        s, y_q = s.astype(">f8"), y_q.astype(">i4")
    elif kind == "misaligned":
        raw = np.zeros(s.nbytes + 1, np.uint8)
        raw[1:] = np.frombuffer(s.tobytes(), np.uint8)
        s = raw[1:].view("f8").reshape(s.shape)
        assert not s.flags.aligned
    else:
        for a in (s, y_s, q, y_q):
            a.flags.writeable = False
    found = fm.prototype_loss(s, y_s, q, y_q, device=device)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_one_float64_argument_makes_all_float64(device):
    s, y_s, q, y_q = episode(dtype="float32")
    assert fm.prototype_loss(s, y_s, q, y_q, device=device)[1].dtype == np.float32
    assert fm.prototype_loss(s, y_s, q.astype("float64"), y_q, device=device)[1].dtype == np.float64


BAD = {
    "y_support has no sample of class 1 in task 0": {"y_support": [0, 2, 2, 0, 0, 2, 2]},
    "every class of 0 .. 1000000000 needs": {"y_support": [0, 1, 2, 0, 1, 2, 10**9]},
    "labels must be 0 .. ways-1; got -1 in y_support": {"y_support": [0, 1, 2, 0, 1, 2, -1]},
    "y_query has class 3; the support set has classes 0 .. 2": {"y_query": [0, 1, 2, 3, 0]},
    "y_query has class -1": {"y_query": [0, 1, 2, -1, 0]},
    r"y_support of shape \(6,\) must hold one label a sample: \(7,\)": {"y_support": [0, 1, 2, 0, 1, 2]},
    "y_query of dtype float64 must be integer labels": {"y_query": np.zeros(5)},
    "must agree in tasks and width": {"query": np.zeros((5, 3))},
    "query of shape .* must be": {"query": np.zeros((1, 5, 4))},
    r"query of shape \(0, 4\) must be": {"query": np.zeros((0, 4)), "y_query": np.zeros(0, int)},
    "support of dtype complex128 must be numbers": {"support": np.zeros((7, 4), complex)},
    "support must be finite; 1 of 28 values": {"support": np.where(np.arange(28).reshape(7, 4) == 3, np.nan, 1.0)},
    "query must be finite": {"query": np.full((5, 4), np.inf)},
    'metric="cosin" must be one of .*Did you mean "cosine"': {"metric": "cosin"},
    "scale=0 must be positive": {"scale": 0},
    'device="gpu" must be one of': {"device": "gpu"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    s, y_s, q, y_q = episode()
    arguments = {"support": s, "y_support": y_s, "query": q, "y_query": y_q, "device": "numpy"}
    with pytest.raises((ValueError, TypeError), match=message):
        fm.prototype_loss(**arguments | BAD[message])


@pytest.mark.parametrize("metric", METRICS)
def test_overflow_is_reported(device, metric):
    s, y_s, q, y_q = episode(dtype="float32")
    with pytest.raises(fm.DivergenceError, match="too large for float32"):
        fm.prototype_loss(s * np.float32(1e30), y_s, q * np.float32(1e30), y_q, metric, device=device)
