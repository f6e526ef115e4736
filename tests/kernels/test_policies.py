"""Policy losses and Fisher products of every backend: the reference's values and derivatives, to second order."""

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.rl.trust_region import curvature
from fastmeta_kernels import cpu, reference
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import InnerLoop, Loss, TaskSet
from tests.gradcheck import flat, relative
from tests.rl import policies

T, N = 3, 7
LOSSES = [(policy, surrogate) for policy in lt.POLICIES for surrogate in lt.SURROGATES]
WIDE = 17  # actions whose outputs are a vector's and more


def _policy(policy, actions):
    make = fm.rl.gaussian_policy if policy == "gaussian" else fm.rl.categorical_policy
    return make(4, actions, hidden=(5, 3), activation="tanh")


def _make(policy, surrogate, actions=2, dtype="float64", weighted=True, samples=N, seed=0):
    """A network, thetas (T, P), directions and a set with advantages of both signs, all of them float32 numbers."""
    rng, net = np.random.default_rng(seed), _policy(policy, actions)

    def normal(*shape):
        return rng.normal(size=shape).astype("float32").astype(dtype)

    theta = net.init(seed).astype(dtype) + 0.2 * normal(T, net.parameter_count).astype("float32")
    x, v = normal(T, samples, 4), normal(T, net.parameter_count)
    y = normal(T, samples, actions) if policy == "gaussian" else rng.integers(0, actions, (T, samples))
    outputs = reference.predict(net.table, theta, x)
    sets = TaskSet(x, y, None, Loss(lt.POLICY, (lt.POLICIES.index(policy), 0, 0.2)))
    drawn = -np.stack([reference.loss(net.table, theta, _sample(sets, n)) for n in range(samples)], axis=1)
    logs = (drawn + 0.3 * normal(T, samples)).astype("float32").astype(dtype)  # of ratios near 1
    data = TaskSet(x, y, normal(T, samples) if weighted else None, fm.PolicyLoss(policy, surrogate).kernel)
    if surrogate == "kl":
        data = data._replace(y=(outputs + 0.5 * normal(*outputs.shape)).astype("float32").astype(dtype))
    return net, theta.astype(dtype), v, data._replace(log_probs=logs if surrogate in ("ratio", "clip") else None)


def _sample(data, n):
    return data._replace(x=data.x[:, n : n + 1], y=data.y[:, n : n + 1])


def _results(backend, net, theta, v, data):
    table = net.table
    return {
        "loss": [backend.loss(table, t, data) for t in (theta, theta[0])],
        "gradient": [backend.gradient(table, t, data) for t in (theta, theta[0])],
        "hvp": [backend.hvp(table, t, u, data) for t in (theta, theta[0]) for u in (v, v[0])],
        "fisher": [backend.fisher(table, t, u, data) for t in (theta, theta[0]) for u in (v, v[0])],
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("actions", [2, WIDE])
@pytest.mark.parametrize(("policy", "surrogate"), LOSSES)
def test_equals_the_reference_in_float64(fast, policy, surrogate, actions, weighted):
    given = _make(policy, surrogate, actions, weighted=weighted)
    expected = _results(reference, *given)
    for name, value in _results(fast, *given).items():
        assert relative(value, expected[name]) <= 1e-12, name


@pytest.mark.parametrize(("policy", "surrogate"), LOSSES)
def test_float32_equals_the_float64_reference(backend, policy, surrogate):
    expected = _results(reference, *_make(policy, surrogate))
    for name, value in _results(backend, *_make(policy, surrogate, dtype="float32")).items():
        assert relative(value, expected[name]) <= 2e-5, name


@pytest.mark.parametrize("actions", [2, WIDE])
@pytest.mark.parametrize(("policy", "surrogate"), LOSSES)
def test_derivatives_are_central_differences(fast, policy, surrogate, actions):
    net, theta, v, data = _make(policy, surrogate, actions)
    ends = [fast.gradient(net.table, theta + sign * 1e-6 * v, data) for sign in (1, -1)]
    _, slopes = fast.gradient(net.table, theta, data)
    assert relative((slopes * v).sum(axis=1), (ends[0][0] - ends[1][0]) / 2e-6) <= 1e-7
    assert relative(fast.hvp(net.table, theta, v, data), (ends[0][1] - ends[1][1]) / 2e-6) <= 1e-7


def test_the_clip_cuts_some_samples_and_not_all():
    net, theta, _, data = _make("gaussian", "clip")
    clipped = [cpu.gradient(net.table, theta, _clipped(data, n))[1].any(axis=1) for n in range(N)]
    assert 0 < np.mean(clipped) < 1


def _clipped(data, n):
    alone = _sample(data, n)
    return alone._replace(weights=data.weights[:, n : n + 1], log_probs=data.log_probs[:, n : n + 1])


@pytest.mark.parametrize("policy", lt.POLICIES)
def test_fisher_is_the_hessian_of_the_divergence_at_its_own_outputs(backend, policy):
    net, theta, v, data = _make(policy, "kl")
    own = data._replace(y=reference.predict(net.table, theta, data.x))
    assert relative(backend.fisher(net.table, theta, v, data), backend.hvp(net.table, theta, v, own)) <= 1e-12


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("adapt", ["all", "head", "body"])
@pytest.mark.parametrize(
    ("policy", "surrogate"), [("gaussian", "ratio"), ("categorical", "log"), ("categorical", "kl")]
)
def test_meta_gradients_through_policy_losses(fast, policy, surrogate, adapt, order):
    net, theta, _, support = _make(policy, surrogate)
    *_, query = _make(policy, surrogate, samples=9, seed=1)
    adapted = {"all": (0, net.parameter_count), "head": net.head, "body": (0, net.head[0])}[adapt]
    for rates in (np.array([[0.05]]), np.linspace(0.01, 0.1, len(net.parameter_shapes))[None]):
        inner = InnerLoop(2, rates, adapted)
        phi = fast.adapt(net.table, theta[0], support, inner)
        assert relative(phi, reference.adapt(net.table, theta[0], support, inner)) <= 1e-12
        for weights, each_weight in ((None, order == 2), (np.array([0.5, 0.0, 2.0]), False)):
            given = net.table, theta[0], support, query, inner, order, "auto", weights, True, each_weight
            ours, expected = (b.meta_gradient(*given) for b in (fast, reference))
            assert relative(ours, expected) <= 1e-12
            assert relative(ours.rates_gradient, expected.rates_gradient) <= 1e-11


@pytest.mark.parametrize("policy", lt.POLICIES)
@pytest.mark.usefixtures("cuda_on_cpu")
def test_products_through_adaptation_on_cuda(policy):
    net, found = policies.network(policy), {}
    at = policies.theta(net)
    for device in ("numpy", "cuda"):
        run, query = policies.adaptation(net, policy, 1, "ratio", device), policies.samples(net, policy, 1, device)
        run = run.run(at)
        slopes, _ = run.pull(query.gradient(run.phis[-1], "clip"))
        found[device] = slopes, curvature(run, query)(1 + at)
    assert relative(found["cuda"], found["numpy"]) <= 1e-12


def test_a_nan_of_the_actions_reaches_the_loss(backend):
    for surrogate in ("log", "ratio", "clip"):
        net, theta, _, data = _make("gaussian", surrogate)
        data.y[1, 2, 0] = np.nan
        assert np.isnan(backend.loss(net.table, theta, data)).tolist() == [False, True, False], surrogate


@pytest.mark.parametrize("tasks", [1, T])
@pytest.mark.parametrize(("policy", "surrogate"), LOSSES)
def test_the_same_bits_for_one_and_two_threads(monkeypatch, policy, surrogate, tasks):
    net, theta, v, data = _make(policy, surrogate, dtype="float32", samples=2000)  # of one task threads share the parts
    x, y, weights, logs = (_first(a, tasks) for a in (data.x, data.y, data.weights, data.log_probs))
    given = net, theta[:tasks], v[:tasks], TaskSet(x, y, weights, data.loss, logs)
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("FASTMETA_NUM_THREADS", threads)
        found.append(_results(cpu, *given))
    for name, values in found[0].items():
        assert np.array_equal(flat(values), flat(found[1][name])), name


def _first(array, tasks):
    return None if array is None else array[:tasks]
