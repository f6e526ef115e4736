"""Every backend against the reference, and what each promises of itself, over tests/cases.py."""

import inspect

import numpy as np
import pytest

from fastmeta_kernels import reference
from fastmeta_kernels.contract import Backend, StepParameters, TaskSet
from fastmeta_kernels.layer_table import places
from tests.cases import CASES
from tests.gradcheck import relative
from tests.kernels.agreement import (
    BY_NAME,
    assert_a_nan_reaches_the_outputs,
    assert_large_sizes_agree,
    assert_losses_agree,
    assert_rates_agree,
    assert_steps_agree,
    assert_ties_go_to_the_first,
    every_result,
    inner_loop,
    named,
    sets,
    smooth_seed,
)

FUNCTIONS = tuple(name for name in vars(Backend) if not name.startswith("_"))
SOME = [
    BY_NAME[name] for name in ("mlp_odd_tanh", "mlp_odd_softplus", "norm_bias_tanh", "conv4_stride", "relu_after_pool")
]


def _has_head(net):
    try:
        return bool(net.head)
    except ValueError:
        return False


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_equals_the_reference_in_float64(fast, case, weighted):
    expected = every_result(reference, case, "float64", 0, weighted)
    for name, value in every_result(fast, case, "float64", 0, weighted).items():
        assert relative(value, expected[name]) <= 1e-12, name


@pytest.mark.parametrize("case", CASES, ids=named)
def test_float32_equals_the_float64_reference_where_no_kink_flips(backend, case):
    seed = smooth_seed(case)
    expected = every_result(reference, case, "float64", seed, False)
    for name, value in every_result(backend, case, "float32", seed, False).items():
        assert relative(value, expected[name]) <= 2e-5, name


@pytest.mark.sweep
@pytest.mark.parametrize("adapt", ["all", "head"])
@pytest.mark.parametrize("kind", ["scalar", "arrays", "parameters", "steps", "steps_arrays"])
@pytest.mark.parametrize("case", SOME, ids=named)
def test_rates_of_every_shape(fast, case, kind, adapt):
    for steps in (1, 3):
        assert_rates_agree(fast, case, kind, adapt, steps)


@pytest.mark.sweep
@pytest.mark.parametrize("adapt", ["all", "head"])
@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("case", [*SOME[:3], SOME[4], BY_NAME["affine_first"]], ids=named)
def test_losses_and_parameters_of_each_step(fast, case, blocks, adapt):
    assert_steps_agree(fast, case, blocks, adapt)


@pytest.mark.parametrize("name", ["mlp_odd_tanh", "one_sample", "conv4_stride"])
def test_support_and_query_sets_have_losses_of_their_own(fast, name):
    assert_losses_agree(fast, BY_NAME[name])


@pytest.mark.sweep
@pytest.mark.parametrize("case", [c for c in CASES if _has_head(c.network)], ids=named)
def test_the_head_alone_moves(backend, case):
    net = case.network
    theta, support, query = sets(case)
    inner = inner_loop(net, "float64", adapt="head")
    phi, _ = backend.adapt(net.table, theta, support, inner)
    assert np.array_equal(phi[:, : net.head[0]], np.tile(theta[: net.head[0]], (case.tasks, 1)))
    moved = np.abs(phi[:, net.head[0] :] - theta[net.head[0] :]).max()
    assert (moved > 0) == (case.name != "one_class")  # the cross-entropy of one class is 0
    ours, expected = (b.meta_gradient(net.table, theta, support, query, inner) for b in (backend, reference))
    assert relative(ours, expected) <= 1e-12


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["scalar", "parameters"])
@pytest.mark.parametrize("case", SOME[:4], ids=named)
def test_the_body_alone_moves(fast, case, kind):
    assert_rates_agree(fast, case, kind, "body", 2)


def test_large_sizes(fast):
    assert_large_sizes_agree(fast)


@pytest.mark.parametrize("size", [2, 3])
def test_ties_of_a_max_pool_go_to_the_first(fast, size):
    assert_ties_go_to_the_first(fast, size)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_nan_reaches_the_outputs(backend):
    assert_a_nan_reaches_the_outputs(backend)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SOME, ids=named)
def test_memory_modes_give_the_same_bits(backend, case, dtype):
    theta, support, query = sets(case, dtype)
    inner = inner_loop(case.network, dtype, "arrays", steps=3)
    results = [
        backend.meta_gradient(case.network.table, theta, support, query, inner, 2, memory)
        for memory in ("stash", "recompute", "auto")
    ]
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.sweep
@pytest.mark.parametrize("case", SOME, ids=named)
def test_no_inner_step_is_the_query_gradient(backend, case):
    net = case.network
    theta, support, query = sets(case)
    inner = inner_loop(net, "float64", steps=0)
    phi, losses = backend.adapt(net.table, theta, support, inner)
    assert np.array_equal(phi, np.tile(theta, (case.tasks, 1)))
    assert losses.shape == (case.tasks, 0)
    result = backend.meta_gradient(net.table, theta, support, query, inner)
    query_losses, gradients = backend.gradient(net.table, theta, query)
    assert relative(result.query_losses, query_losses) <= 1e-14
    assert relative(result.gradient, gradients.mean(axis=0)) <= 1e-13
    assert result.support_losses.shape == (case.tasks, 0)
    assert not result.rates_gradient.any()


@pytest.mark.parametrize("kind", ["scalar", "steps_arrays"])
def test_many_inner_steps_are_taken_in_parts(fast, monkeypatch, kind):
    monkeypatch.setattr(fast.CALLS, "most_steps", 2)
    case = BY_NAME["norm_on_vectors"]
    net, chosen = case.network, (2,)
    theta, support, _ = sets(case)
    values = theta[places(net.table, chosen)] * np.linspace(1, 2, 6)[:, None]
    inner = inner_loop(net, "float64", kind, steps=5)._replace(step_parameters=StepParameters(chosen, values))
    phi, losses = fast.adapt(net.table, theta, support, inner)
    assert relative((phi, losses), reference.adapt(net.table, theta, support, inner)) <= 1e-12


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_inputs_are_unmodified_results_fresh_and_dtypes_kept(backend, case, dtype):
    net = case.network
    theta, support, query = sets(case, dtype, weighted=True)
    inner = inner_loop(net, dtype, steps=1)
    given = [theta, *support[:3], *query[:3], inner.rates, net.table]
    before = [a.copy() for a in given]
    run = backend.predict(net.table, theta, query.x), backend.loss(net.table, theta, query)
    run += (*backend.gradient(net.table, theta, query), backend.hvp(net.table, theta, theta, query))
    run += (*backend.adapt(net.table, theta, support, inner._replace(steps=0)),)
    run += (*backend.meta_gradient(net.table, theta, support, query, inner),)
    assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))
    assert {a.dtype for a in run} == {np.dtype(dtype)}
    assert not any(np.shares_memory(a, b) for a in run for b in given)


def _tasks(data, index):
    return TaskSet(*[None if a is None else np.ascontiguousarray(a[index]) for a in data[:3]], data.loss)


@pytest.mark.sweep
@pytest.mark.parametrize("case", SOME, ids=named)
def test_a_batch_is_the_mean_of_its_tasks_in_any_order(backend, case):
    net = case.network
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(net, "float64", "arrays")
    together = backend.meta_gradient(net.table, theta, support, query, inner)
    singles = [
        backend.meta_gradient(net.table, theta, _tasks(support, [t]), _tasks(query, [t]), inner)
        for t in range(case.tasks)
    ]
    assert relative(together.gradient, np.mean([s.gradient for s in singles], axis=0)) <= 1e-13
    assert relative(together.rates_gradient, np.mean([s.rates_gradient for s in singles], axis=0)) <= 1e-12
    assert relative(together.query_losses, np.concatenate([s.query_losses for s in singles])) <= 1e-13
    order = np.random.default_rng(0).permutation(case.tasks)
    shuffled = backend.meta_gradient(net.table, theta, _tasks(support, order), _tasks(query, order), inner)
    assert relative(shuffled.gradient, together.gradient) <= 1e-14
    assert relative(shuffled.query_losses, together.query_losses[order]) <= 1e-14


@pytest.mark.sweep
@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_hessian_is_linear_and_symmetric(backend, case):
    net = case.network
    theta, support, _ = sets(case, weighted=True)
    u, v = np.random.default_rng(3).standard_normal((2, theta.size))
    hu, hv, both = (backend.hvp(net.table, theta, w, support) for w in (u, v, 2 * u - 3 * v))
    scale = np.linalg.norm(hu) * np.linalg.norm(v)
    assert np.abs(hu @ v - hv @ u).max() <= 1e-13 * scale
    assert np.linalg.norm(both - (2 * hu - 3 * hv)) <= 1e-13 * np.linalg.norm(both)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_the_signature_of_the_contract(backend, name):
    wanted = list(inspect.signature(getattr(Backend, name)).parameters.values())[1:]
    found = list(inspect.signature(getattr(backend, name)).parameters.values())
    assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in wanted]
    assert inspect.getdoc(getattr(backend, name))
