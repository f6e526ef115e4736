"""The meta-gradient of each task and the slope of each support weight, on every fast backend as in the reference."""

import numpy as np
import pytest

from fastmeta import Conv4
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
