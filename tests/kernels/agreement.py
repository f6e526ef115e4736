"""Whether a backend agrees with the reference: what the tests of every backend ask."""

import numpy as np

from fastmeta.gradients.task_sets import batch_sets
from fastmeta.lab.central_differences import kink_pattern
from fastmeta.networks.architectures import MLP
from fastmeta.networks.layers import Affine, BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastmeta.networks.network import Network
from fastmeta_kernels import reference
from fastmeta_kernels.contract import InnerLoop, Loss, StepParameters, TaskSet
from fastmeta_kernels.layer_table import CROSS_ENTROPY, HUBER, SQUARED_ERROR, places
from tests.cases import CASES, Case
from tests.gradcheck import relative

BY_NAME = {case.name: case for case in CASES}
STEPS = 2


def named(case):
    """How a parametrised test calls it."""
    return getattr(case, "name", case)


def sets(case, dtype="float64", seed=0, weighted=False):
    """theta, support and query set of a case."""
    theta, batch = case.make(dtype, seed, weighted)
    return theta, *batch_sets(case.network, batch, theta.dtype)


def inner_loop(net, dtype, kind="scalar", adapt="all", steps=STEPS):
    """An inner loop with rates of that kind."""
    rng = np.random.default_rng(7)
    sizes = {
        "scalar": (1, 1),
        "arrays": (1, len(net.parameter_shapes)),
        "parameters": (1, net.parameter_count),
    }
    sizes |= {"steps": (steps, 1), "steps_arrays": (steps, len(net.parameter_shapes))}
    rates = rng.uniform(0.02, 0.1, sizes[kind]).astype("float32").astype(dtype)
    ranges = {"all": lambda: (0, net.parameter_count), "head": lambda: net.head, "body": lambda: (0, net.head[0])}
    return InnerLoop(steps, rates, ranges[adapt]())


def smooth_seed(case, weighted=False):
    """A seed with no kink within float32 rounding along the inner loop: one smooth piece for both dtypes."""
    net = case.network
    for seed in range(20):
        theta, support, query = sets(case, seed=seed, weighted=weighted)
        inner = inner_loop(net, "float64")
        phis = [np.tile(theta, (case.tasks, 1))]
        for _ in range(STEPS):
            phis.append(reference.adapt(net.table, phis[-1], support, inner._replace(steps=1))[0])
        shifts = np.random.default_rng(0).standard_normal((4, theta.size))
        visited = [(phi, support.x) for phi in phis[:-1]] + [(phis[0], query.x), (phis[-1], query.x)]
        if case.smooth or all(
            kink_pattern(net.table, phi, x) == kink_pattern(net.table, phi + 3e-6 * shift, x)
            for phi, x in visited
            for shift in shifts
        ):
            return seed
    raise AssertionError(f"{case.name} meets a kink at every seed")


def every_result(backend, case, dtype, seed, weighted):
    """Every function's result; those of one function are compared together."""
    net = case.network
    theta, support, query = sets(case, dtype, seed, weighted)
    each = np.tile(theta, (case.tasks, 1))  # one theta a task
    each += 0.25 * np.random.default_rng(1).standard_normal(each.shape).astype("float32") if case.smooth else 0
    v = np.random.default_rng(2).standard_normal(theta.shape).astype("float32").astype(dtype)
    inner = inner_loop(net, dtype)
    values = {
        "predict": [backend.predict(net.table, t, query.x) for t in (theta, each)],
        "loss": [backend.loss(net.table, t, query) for t in (theta, each)],
        "gradient": [backend.gradient(net.table, t, query) for t in (theta, each)],
        "hvp": [backend.hvp(net.table, t, w, query) for t in (theta, each) for w in (v, each)],
        "adapt": backend.adapt(net.table, theta, support, inner),
    }
    for order in (1, 2):
        values[f"meta_gradient_{order}"] = backend.meta_gradient(net.table, theta, support, query, inner, order)
    return values


def assert_rates_agree(backend, case, kind, adapt, steps, weighted=False):
    """Adapted parameters, meta-gradients and gradients of rates of that kind."""
    net = case.network
    theta, support, query = sets(case, weighted=weighted)
    inner = inner_loop(net, "float64", kind, adapt, steps)
    adapted = backend.adapt(net.table, theta, support, inner)
    assert relative(adapted, reference.adapt(net.table, theta, support, inner)) <= 1e-12
    for order in (1, 2):
        ours, expected = (b.meta_gradient(net.table, theta, support, query, inner, order) for b in (backend, reference))
        assert ours.rates_gradient.shape == inner.rates.shape
        assert relative(ours, expected) <= 1e-12
        assert relative(ours.rates_gradient, expected.rates_gradient) <= 1e-11


def assert_steps_agree(backend, case, blocks, adapt):
    """All that differs from step to step, with none, one and every other array each step's own."""
    net, rng = case.network, np.random.default_rng(0)
    theta, support, query = sets(case, weighted=True)
    chosen = ((), (1,), tuple(range(0, len(net.parameter_shapes), 2)))[blocks]
    for steps in (0, 1, 3):
        own = None
        if chosen:
            values = theta[places(net.table, chosen)]
            own = StepParameters(chosen, values + 0.3 * rng.standard_normal((steps + 1, values.size)))
        inner = inner_loop(net, "float64", "arrays", adapt, steps)._replace(step_parameters=own)
        adapted = backend.adapt(net.table, theta, support, inner)
        assert relative(adapted, reference.adapt(net.table, theta, support, inner)) <= 1e-12
        for weights in (None, rng.uniform(size=steps + 1), np.eye(steps + 1)[0]):
            for order, memory in ((1, "auto"), (2, "stash"), (2, "recompute")):
                arguments = net.table, theta, support, query, inner, order, memory, weights
                ours, expected = (b.meta_gradient(*arguments) for b in (backend, reference))
                assert ours.step_parameters_gradient.shape == expected.step_parameters_gradient.shape
                assert relative(ours, expected) <= 1e-12


def assert_losses_agree(backend, case):
    """Losses given by name: one of the support sets, another of the query sets."""
    net = case.network
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(net, "float64", "arrays")
    targets = np.eye(net.outputs)
    gaps = np.abs(reference.predict(net.table, theta, support.x) - targets[support.y])
    delta = 1.01 * float(np.median(gaps))
    floats, near, labels = (
        TaskSet(data.x, y, data.weights, loss)
        for data, y, loss in (
            (support, targets[support.y], Loss(SQUARED_ERROR)),
            (support, targets[support.y], Loss(HUBER, (delta,))),
            (query, query.y, Loss(CROSS_ENTROPY)),
        )
    )
    for one, other in ((floats, labels), (labels, floats), (near, labels), (labels, near), (near, near)):
        for order, weights in ((1, None), (2, None), (2, np.array([0.5, 0.0, 2.0]))):
            arguments = net.table, theta, one, other, inner, order, "auto", weights
            ours, expected = (b.meta_gradient(*arguments) for b in (backend, reference))
            assert relative(ours, expected) <= 1e-12
        assert relative(backend.hvp(net.table, theta, theta, one), reference.hvp(net.table, theta, theta, one)) <= 1e-12


def assert_large_sizes_agree(backend):
    """More tasks, samples and parameters of one rate than a block, a chunk or a partial sum takes at once."""
    many_tasks = Case("tasks", MLP((2, 3, 2), "tanh"), tasks=40, support=3, query=3)
    labels = Case("labels", MLP((2, 3, 2), "tanh"), tasks=1, support=300, query=270)
    targets = Case("targets", MLP((2, 3, 2), "tanh"), "squared_error", tasks=1, support=300, query=270)
    wide = Case("parameters", MLP((3, 70, 70, 2), "tanh"), tasks=2, support=3, query=3)
    for case in (many_tasks, labels, targets, wide):
        assert_rates_agree(backend, case, "arrays", "all", 2, weighted=True)
        theta, _, query = sets(case, weighted=True)
        v = np.random.default_rng(0).standard_normal(theta.shape)
        ours, expected = (b.hvp(case.network.table, theta, v, query) for b in (backend, reference))
        assert relative(ours, expected) <= 1e-12
    theta, support, query = sets(many_tasks)
    each, inner = theta * np.linspace(1, 2, many_tasks.tasks)[:, None], inner_loop(many_tasks.network, "float64")
    arguments = many_tasks.network.table, each, support, query, inner
    assert relative(backend.meta_gradient(*arguments), reference.meta_gradient(*arguments)) <= 1e-12


def assert_ties_go_to_the_first(backend, size):
    """Windows of a max-pool that hold their largest value twice: the second input channel tells which was chosen."""
    net = Network([Conv2d(3, 1, padding=0), MaxPool2d(size), Flatten(), Linear(3)], (5, 7, 2))
    rng = np.random.default_rng(0)
    theta = net.init(0, "float64")
    net.views(theta)["conv1.weight"][..., 1, :] = 0
    x = rng.standard_normal((2, 3, 5, 7, 2))
    x[..., 0] = np.round(x[..., 0])
    data = TaskSet(x, rng.integers(0, 3, (2, 3)))
    v = rng.standard_normal(theta.shape)
    for function in (lambda b: b.gradient(net.table, theta, data), lambda b: b.hvp(net.table, theta, v, data)):
        assert relative(function(backend), function(reference)) <= 1e-12


def assert_a_nan_reaches_the_outputs(backend):
    """Neither a ReLU nor a pool swallows it, whatever is beside it."""
    before = {"linear": [Flatten(), Linear(4)], "convolution": [Conv2d(2)], "norm": [BatchNorm()], "affine": [Affine()]}
    before |= {"pool": [MaxPool2d(2)], "input": []}
    for name, layers in before.items():
        rest = [ReLU(), Flatten(), Linear(1)]
        net = Network([*layers, *(rest if name != "pool" else rest[1:])], (2, 2, 1))
        theta = np.ones(net.parameter_count)
        for place in range(4):
            x = np.zeros((1, 1, 4))
            x[0, 0, place] = np.nan
            assert np.isnan(backend.predict(net.table, theta, x.reshape(1, 1, 2, 2, 1))).all(), name
