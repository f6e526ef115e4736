"""The CUDA backend against the reference: its source on the CPU everywhere, and on the GPU where there is one."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import fastmeta as fm
import fastmeta.device
from fastmeta.networks.architectures import MLP, Conv4
from fastmeta.networks.layers import Conv2d, GlobalMeanPool, Linear, ReLU, Softplus, Tanh
from fastmeta.networks.network import Network
from fastmeta_kernels import reference
from fastmeta_kernels.contract import Loss
from fastmeta_kernels.cuda.execution import call as execution
from fastmeta_kernels.cuda.layers import products
from fastmeta_kernels.cuda.layout.recording import Launch
from fastmeta_kernels.cuda.machine import machine
from fastmeta_kernels.cuda.program.program import Program
from fastmeta_kernels.cuda.small_mlp import persistent_mlp
from fastmeta_kernels.layer_table import CROSS_ENTROPY
from fastmeta_kernels.request import Request, SetShape
from tests.cases import Case
from tests.gradcheck import relative
from tests.kernels.agreement import (
    BY_NAME,
    every_result,
    inner_loop,
    named,
    sets,
)

SOME = [BY_NAME[name] for name in ("mlp_odd_tanh", "norm_bias_tanh", "conv4_stride")]
SMALL = SOME[:2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SMALL, ids=named)
def test_memory_modes_graphs_and_calls_give_the_same_bits(cuda, case, dtype):
    theta, support, query = sets(case, dtype)
    inner = inner_loop(case.network, dtype, "arrays", steps=3)
    results = [
        cuda.meta_gradient(case.network.table, theta, support, query, inner, 2, memory)
        for memory in ("stash", "stash", "stash", "recompute", "recompute", "auto")
    ]
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(("case", "kind"), [(SOME[0], "scalar"), *((case, "arrays") for case in SOME)], ids=named)
def test_the_order_of_threads_changes_no_bit(cuda_on_cpu, cupy_on_cpu, case, kind):
    theta, support, query = sets(case, "float32", weighted=True)
    inner = inner_loop(case.network, "float32", kind)
    results = []
    for cupy_on_cpu.order in (0, 1, 5):
        results.append(cuda_on_cpu.meta_gradient(case.network.table, theta, support, query, inner))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("resident", [0, 2, 7, 15])
@pytest.mark.parametrize("case", [*SOME[1:], BY_NAME["norm_on_vectors"]], ids=named)
def test_any_number_of_blocks_gives_the_same_bits(cuda_on_cpu, cupy_on_cpu, case, resident):
    """Groups of one block and more, in several orders, and blocks that cannot wait: each job a launch of its own."""
    theta, support, query = sets(case, "float32", weighted=True)
    inner = inner_loop(case.network, "float32", "arrays")
    expected = cuda_on_cpu.meta_gradient(case.network.table, theta, support, query, inner)
    for cached in (execution.clear, machine.cooperates.cache_clear, machine.resident_blocks.cache_clear):
        cached()
    machine.module.cache_clear()
    machine.function.cache_clear()
    cupy_on_cpu.resident, before = resident, cupy_on_cpu.launches
    for cupy_on_cpu.order in (0, 1, 5):
        ours = cuda_on_cpu.meta_gradient(case.network.table, theta, support, query, inner)
        assert all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))
    assert (cupy_on_cpu.launches - before == 3 * execution.latest().program.launches) == (resident > 0)


@pytest.mark.parametrize(
    ("net", "order", "launches"), [(Conv4(), 2, 4), (Conv4(), 1, 4), (MLP((1, 40, 40, 1)), 2, 3)], ids=str
)
def test_a_meta_step_is_few_launches(net, order, launches):
    """32 tasks of 5 inner steps: jobs of all layers and steps, and three means over tasks."""
    request = Request(
        "meta_gradient", net.table.tobytes(), np.dtype("float32"), 32, SetShape(5, loss=Loss(CROSS_ENTROPY))
    )
    support = SetShape(5, loss=Loss(CROSS_ENTROPY))
    request = request._replace(support=support, steps=5, adapted=(0, net.parameter_count), order=order)
    assert Program(request).launches == launches


def test_each_call_computes_on_its_own_numbers(cuda):
    """The second call captures a graph and the third replays it."""
    case = BY_NAME["norm_on_vectors"]
    for seed in range(4):
        theta, support, query = sets(case, seed=seed)
        inner = inner_loop(case.network, "float64")
        ours, expected = (b.meta_gradient(case.network.table, theta, support, query, inner) for b in (cuda, reference))
        assert relative(ours, expected) <= 1e-12


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_inputs_are_unmodified_and_results_fresh(cuda, case):
    net = case.network
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(net, "float64", steps=1)
    given = [theta, *support[:3], *query[:3], inner.rates, net.table]
    before = [a.copy() for a in given]
    first = cuda.meta_gradient(net.table, theta, support, query, inner)
    kept = [a.copy() for a in first]
    cuda.meta_gradient(net.table, 2 * theta, support, query, inner)
    assert all(np.array_equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))
    assert {a.dtype for a in first} == {np.dtype("float64")}
    assert {type(a) for a in first} == {np.ndarray}


def test_the_public_functions_compute_with_it(cuda):
    case = BY_NAME["norm_bias_tanh"]
    theta, batch = case.make()
    fastmeta.device.backend.cache_clear()
    ours, expected = (fm.meta_gradient(case.network, theta, batch, 0.1, 2, device=d) for d in ("cuda", "numpy"))
    assert relative(ours.gradient, expected.gradient) <= 1e-12
    assert relative(ours.loss, expected.loss) <= 1e-12
    with pytest.raises(fm.DivergenceError, match="diverged at inner step"):
        fm.meta_gradient(case.network, theta, batch, 1e200, 2, device="cuda")


def test_device_arrays_are_taken_as_they_are(cuda):
    case = BY_NAME["mlp_odd_tanh"]
    theta, support, _ = sets(case)
    on_device = machine.cupy().asarray
    x, y = on_device(support.x), on_device(support.y)
    losses = cuda.loss(case.network.table, on_device(theta), support._replace(x=x, y=y))
    assert relative(losses, reference.loss(case.network.table, theta, support)) <= 1e-13


def test_long_sums_are_split_over_blocks(cuda):
    """Few tasks: depths of products and rows of batch norms are dealt to several blocks."""
    case = BY_NAME["conv4_pool"]
    theta, support, query = sets(case)
    inner = inner_loop(case.network, "float64")
    ours, expected = (b.meta_gradient(case.network.table, theta, support, query, inner) for b in (cuda, reference))
    assert relative(ours, expected) <= 1e-12
    jobs = execution.latest().program.recording.launches[0].jobs
    structs = [job.members for job in jobs]
    assert max(job["splits"] for job in structs if "splits" in job.dtype.names) > 1
    assert max(job["chunks"] for job in structs if "chunks" in job.dtype.names) > 1


def test_the_parts_of_split_sums_are_masked_by_relus(cuda):
    """One task and sums over 140 places: y_dot and dx of rectified values are added up from parts."""
    layers = [Tanh(), Linear(140), ReLU(), Linear(6), ReLU(), Linear(140), ReLU(), Linear(3)]
    case = Case("split", Network(layers, (5,)), tasks=1)
    expected = every_result(reference, case, "float64", 0, True)
    for name, value in every_result(cuda, case, "float64", 0, True).items():
        assert relative(value, expected[name]) <= 1e-12, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_a_saturated_activation_has_no_slope_and_no_nan(cuda, activation, dtype):
    """tanh of 1,000 is 1 and softplus of -1,000 is 0 to the last bit: f' is 0, and f'' / f' is never asked for."""
    case = Case("saturated", MLP((2, 3, 4, 2), activation))
    theta, support, query = sets(case, dtype)
    case.network.views(theta)["linear1.bias"][:2] = -1000
    inner = inner_loop(case.network, dtype, steps=2)
    ours = cuda.meta_gradient(case.network.table, theta, support, query, inner)
    wide = [s._replace(x=s.x.astype("float64")) for s in (support, query)]
    inner = inner_loop(case.network, "float64", steps=2)
    expected = reference.meta_gradient(case.network.table, theta.astype("float64"), *wide, inner)
    assert relative(ours, expected) <= {"float32": 1e-5, "float64": 1e-12}[dtype]


def test_a_constant_channel_has_no_gradient_and_an_overflow_is_no_constant(cuda):
    case = BY_NAME["norm_first"]
    theta, support, _ = sets(case)
    x = np.full_like(support.x, 0.1)
    gradients = [b.gradient(case.network.table, theta, support._replace(x=x))[1] for b in (cuda, reference)]
    assert relative(*gradients) <= 1e-12
    broken = support._replace(x=support.x * 1e200)
    assert np.isnan(cuda.loss(case.network.table, theta, broken)).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    channels=st.integers(1, 20),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    bias=st.booleans(),
)
def test_convolutions_of_any_geometry(cuda_on_cpu, image, channels, kernel, stride, padding, bias):
    """A strided layer behind another, so that dx and every tangent are needed."""
    assume(padding < kernel <= min(image[:2]) + 2 * padding)
    layers = [Conv2d(3, 1, 1, 0), Tanh(), Conv2d(channels, kernel, stride, padding, bias), Softplus(), GlobalMeanPool()]
    case = Case("any", Network(layers, image), "squared_error", tasks=2, support=2, query=3)
    theta, support, query = sets(case)
    inner = inner_loop(case.network, "float64", "arrays", steps=1)
    ours, expected = (
        b.meta_gradient(case.network.table, theta, support, query, inner) for b in (cuda_on_cpu, reference)
    )
    assert relative(ours, expected) <= 1e-12


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    widths=st.lists(st.integers(1, 19), min_size=2, max_size=10),
    activation=st.sampled_from(["relu", "tanh", "softplus"]),
    loss=st.sampled_from(["squared_error", "cross_entropy"]),
    samples=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kind=st.sampled_from(["scalar", "parameters", "steps_arrays"]),
    order=st.integers(1, 2),
    tasks=st.integers(1, 3),
)
def test_mlps_of_any_size(cuda_on_cpu, widths, activation, loss, samples, kind, order, tasks):
    """Up to eight linear layers by the persistent path, nine by the layered one."""
    case = Case("any", MLP(tuple(widths), activation), loss, tasks, *samples)
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(case.network, "float64", kind)
    ours, expected = (
        b.meta_gradient(case.network.table, theta, support, query, inner, order) for b in (cuda_on_cpu, reference)
    )
    assert relative(ours, expected) <= 1e-12
    expected = reference.adapt(case.network.table, theta, support, inner)
    assert relative(cuda_on_cpu.adapt(case.network.table, theta, support, inner), expected) <= 1e-12
    first = execution.latest().program.recording.launches[0]
    assert (isinstance(first, Launch) and first.kernel == "mlp_meta_gradient<double>") == (len(widths) <= 9)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", ["scalar", "arrays", "parameters", "steps", "steps_arrays"])
def test_a_block_adds_up_the_tasks_of_its_chunk(cuda, monkeypatch, kind, order):
    monkeypatch.setattr(persistent_mlp, "MOST_CHUNKS", 2)
    execution.clear()
    case = BY_NAME["mlp_odd_softplus"]
    assert case.tasks == 5
    theta, support, query = sets(case, weighted=True)
    inner = inner_loop(case.network, "float64", kind, steps=3)
    ours, expected = (
        b.meta_gradient(case.network.table, theta, support, query, inner, order) for b in (cuda, reference)
    )
    assert relative(ours, expected) <= 1e-12
    assert relative(ours.rates_gradient, expected.rates_gradient) <= 1e-11


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_division_by_multiplication(divisor, n):
    by = {name: int(value) for name, value in zip(("d", "m", "s"), products.divisor(divisor).item(), strict=True)}
    assert (n if by["d"] == 1 else (n * by["m"] >> 32) >> by["s"]) == n // divisor
