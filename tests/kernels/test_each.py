"""The meta-gradient of each task and the slope of each support weight, on every fast backend as in the reference."""

from dataclasses import replace

import numpy as np
import pytest

from fastmeta import MLP, Conv4
from fastmeta_kernels import cpu, reference
from fastmeta_kernels.contract import InnerLoop
from tests.cases import Case
from tests.gradcheck import relative
from tests.kernels.agreement import BY_NAME, inner_loop, named, sets

SOME = [BY_NAME[n] for n in ("mlp_odd_tanh", "mlp_odd_softplus", "norm_bias_tanh", "relu_after_pool", "conv4_stride")]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", SOME, ids=named)
def test_fast_backends_give_the_same_slopes(fast, case, weighted):
    net = case.network
    theta, support, query = sets(case, weighted=weighted)
    adapts = ("all", "head") if case.name != "relu_after_pool" else ("all",)
    for adapting in adapts:
        for steps, memory in ((0, "auto"), (1, "recompute"), (3, "stash"), (3, "recompute")):
            inner = inner_loop(net, "float64", "scalar", adapting, steps)
            arguments = net.table, theta, support, query, inner, 2, memory, None, True, True
            ours, expected = (b.meta_gradient(*arguments) for b in (fast, reference))
            for name in ("gradient", "task_gradients", "weights_gradient"):
                one, other = getattr(ours, name), getattr(expected, name)
                assert one.shape == other.shape, name
                assert relative(one, other) <= 1e-12, name
            assert relative(ours.task_gradients.mean(axis=0), ours.gradient) <= 1e-13
            assert relative(ours.rates_gradient, expected.rates_gradient) <= 1e-11


def test_each_task_alone_has_its_gradient():
    net = Conv4((9, 9, 1), channels=4, outputs=3)
    case = Case("each", net, tasks=20, support=3, query=3)
    theta, support, query = sets(case)
    arguments = InnerLoop(2, np.array([[0.1]]), (0, net.parameter_count)), 1, "auto", None, True
    ours, expected = (b.meta_gradient(net.table, theta, support, query, *arguments) for b in (cpu, reference))
    assert relative(ours.task_gradients, expected.task_gradients) <= 1e-12


@pytest.mark.parametrize("case", SOME[:4], ids=named)
def test_pulled_steps_are_those_of_the_reference(fast, case):
    net = case.network
    theta, support, query = sets(case, weighted=True)
    for adapting in ("all", "head") if case.name != "relu_after_pool" else ("all",):
        for kind in ("scalar", "parameters", "steps_arrays"):
            for steps, memory, order in (
                (0, "auto", 2),
                (1, "auto", 2),
                (3, "stash", 2),
                (3, "recompute", 2),
                (3, "auto", 1),
            ):
                inner = inner_loop(net, "float64", kind, adapting, steps)._replace(pulls=(0.3, 0.7))
                adapted = (b.adapt(net.table, theta, support, inner) for b in (fast, reference))
                assert relative(*adapted) <= 1e-12
                weights = np.linspace(0.5, 1.0, steps + 1) if kind == "parameters" else None
                arguments = net.table, theta, support, query, inner, order, memory, weights, True, order == 2
                ours, expected = (b.meta_gradient(*arguments) for b in (fast, reference))
                for name, value in expected._asdict().items():
                    assert relative(getattr(ours, name), value) <= 1e-11, name


def test_more_pulled_steps_than_a_program_has_keep_their_theta():
    net = MLP((2, 3, 1), "tanh")
    theta, support, _ = sets(Case("long", net, "squared_error", tasks=2, support=3, query=3))
    inner = InnerLoop(1003, np.array([[0.01]]), (0, net.parameter_count), pulls=(0.0, 0.5))
    assert relative(*(b.adapt(net.table, theta, support, inner) for b in (cpu, reference))) <= 1e-11


@pytest.mark.parametrize("case", SOME, ids=named)
def test_a_block_of_tasks_has_its_own_bits_whatever_is_computed_beside_it(fast, case):
    net = case.network
    theta, support, query = sets(replace(case, tasks=7), weighted=True)
    inner = inner_loop(net, "float64", "scalar", "all", 2)

    def of(blocks, first=0, last=7):
        data = (type(s)(*(None if a is None else a[first:last] for a in s[:3]), *s[3:]) for s in (support, query))
        return fast.block_gradients(net.table, theta, *data, inner, blocks, 2, "auto", np.array([0.5, 0.0, 1.0]))

    blocks = [(0, 2), (2, 3), (3, 5), (5, 7)]
    together, apart = of(blocks), [of([(0, end - begin)], begin, end) for begin, end in blocks]
    assert together.gradient.shape == (4, net.parameter_count)
    for name in ("gradient", "rates_gradient", "query_losses", "support_losses"):
        expected = np.concatenate([getattr(one, name) for one in apart])
        np.testing.assert_array_equal(getattr(together, name), expected, err_msg=name)
    expected = reference.block_gradients(
        net.table, theta, support, query, inner, blocks, 2, "auto", np.array([0.5, 0.0, 1.0])
    )
    assert relative(together.gradient, expected.gradient) <= 1e-12
    assert relative(together.rates_gradient, expected.rates_gradient) <= 1e-11
    whole = reference.meta_gradient(net.table, theta, support, query, inner, 2, "auto", np.array([0.5, 0.0, 1.0]))
    assert relative(np.array([2, 1, 2, 2]) / 7 @ together.gradient, whole.gradient) <= 1e-12
