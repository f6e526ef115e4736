"""Tasks in lanes: against the reference and columns, blocks that are not full, threads, the rule, the product."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastmeta.networks.architectures import MLP
from fastmeta.networks.layers import Flatten, Linear, ReLU, Softplus, Tanh
from fastmeta.networks.network import Network
from fastmeta_kernels import cpu, reference
from fastmeta_kernels.contract import InnerLoop, Loss, TaskSet
from fastmeta_kernels.cpu.execution import call, handlers, threads
from fastmeta_kernels.cpu.layout import instruction, lanes
from fastmeta_kernels.cpu.machine.lane_product import compile_lane_product, lane_product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES
from fastmeta_kernels.cpu.program import choices
from fastmeta_kernels.layer_table import HUBER, LINEAR_LOSS, SQUARED_ERROR
from fastmeta_kernels.request import Request, SetShape, stash_bytes
from tests.cases import CASES, Case
from tests.gradcheck import relative
from tests.kernels.agreement import (
    BY_NAME,
    assert_losses_agree,
    assert_rates_agree,
    assert_steps_agree,
    inner_loop,
    named,
    sets,
    smooth_seed,
)
from tests.kernels.cpu.test_cpu import python

MLPS = [case for case in CASES if lanes._sizes(case.network.table.tobytes())[0]]
WIDTH = VECTOR_BYTES // 8  # lanes of float64
IMAGES = Case("images", Network([Flatten(), Linear(9), ReLU(), Softplus(), Linear(5), Tanh(), Linear(3)], (4, 3, 2)))


@pytest.fixture(params=[0, 1], ids=["lanes", "columns"])
def fewest(request, monkeypatch):
    """Every number of tasks goes by lanes, or none does."""
    monkeypatch.setattr(lanes, "FEWEST_BLOCKS", request.param << 40)
    call._local.__dict__.clear()
    yield request.param
    call._local.__dict__.clear()


@pytest.fixture
def in_lanes(monkeypatch):
    """Every number of tasks goes by lanes."""
    monkeypatch.setattr(lanes, "FEWEST_BLOCKS", 0)
    call._local.__dict__.clear()
    yield
    call._local.__dict__.clear()


def variant() -> str:
    """How the last call was computed."""
    return next(reversed(call._local.calls.values())).request.variant


def meta_gradients(case, dtype, seed=0, weighted=False, steps=2):
    """Of both orders, by the CPU backend and by the reference in float64."""
    found = []
    for order in (1, 2):
        for backend, of in ((cpu, dtype), (reference, "float64")):
            theta, support, query = sets(case, of, seed, weighted)
            inner = inner_loop(case.network, of, steps=steps)
            found.append(backend.meta_gradient(case.network.table, theta, support, query, inner, order))
    return found[::2], found[1::2]


def test_the_networks_of_lanes():
    assert {case.name for case in MLPS} >= {"mlp_sinusoid", "mlp_odd_tanh", "mlp_odd_softplus", "linear_only"}
    assert not {case.name for case in MLPS} & {"conv4_stride", "norm_on_vectors", "append_last", "relu_first"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", [*MLPS, IMAGES], ids=named)
def test_lanes_are_the_reference_in_float64(case, weighted, fewest):
    ours, expected = meta_gradients(case, "float64", weighted=weighted)
    assert (variant() == lanes.LANES) == (fewest == 0)
    for one, other in zip(ours, expected, strict=True):
        assert relative(one, other) <= 1e-12


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("case", [*MLPS, IMAGES], ids=named)
def test_lanes_in_float32_are_the_reference_where_no_kink_flips(case):
    ours, expected = meta_gradients(case, "float32", seed=smooth_seed(case))
    assert variant() == lanes.LANES
    for one, other in zip(ours, expected, strict=True):
        assert relative(one, other) <= 5e-6


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("adapt", ["all", "head", "body"])
@pytest.mark.parametrize("kind", ["scalar", "arrays", "parameters", "steps", "steps_arrays"])
@pytest.mark.parametrize("name", ["mlp_odd_tanh", "mlp_odd_softplus"])
def test_rates_of_every_shape_in_lanes(name, kind, adapt):
    for steps in (1, 3):
        assert_rates_agree(cpu, BY_NAME[name], kind, adapt, steps, weighted=steps == 1)


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("adapt", ["all", "head"])
@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("name", ["mlp_odd_tanh", "mlp_odd_softplus"])
def test_losses_and_parameters_of_each_step_in_lanes(name, blocks, adapt):
    assert_steps_agree(cpu, BY_NAME[name], blocks, adapt)


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("name", ["mlp_odd_tanh", "mlp_63_relu", "one_sample"])
def test_losses_by_name_in_lanes(name):
    assert_losses_agree(cpu, BY_NAME[name])


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("tasks", [1, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, 5 * WIDTH + 3, 40 * WIDTH + 1])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_blocks_that_are_not_full(tasks, loss):
    """A lane without a task has the last one again, and nothing of it is in a sum or a loss."""
    case = Case("tasks", MLP((2, 5, 3), "tanh"), loss, tasks=tasks)
    ours, expected = meta_gradients(case, "float64", weighted=True)
    for one, other in zip(ours, expected, strict=True):
        assert relative(one, other) <= 1e-12
        for name in ("query_losses", "support_losses"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def of_one_step(activation: str, samples: tuple[int, int], loss: str = "squared_error", tasks: int = WIDTH + 3) -> Case:
    """A network whose hidden layers no task has for itself, where there is one inner step."""
    net = MLP((3, 40, 48, 40, 2), activation)
    return Case("one_step", net, loss, tasks=tasks, support=samples[0], query=samples[1])


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
@pytest.mark.parametrize("samples", [(10, 10), (3, 8), (8, 3), (1, 1)])
def test_one_step_without_weights_of_each_task(samples, activation, loss, weighted):
    """Products of samples in their place: losses, gradient and the rate's gradient."""
    case = of_one_step(activation, samples, loss)
    (_, ours), (_, expected) = meta_gradients(case, "float64", weighted=weighted, steps=1)
    asked = next(reversed(call._local.calls.values())).request
    assert choices.Choices(asked.of_one_task()).shared == ((2, 4) if activation != "relu" else (1, 2))
    for name in ("query_losses", "support_losses", "gradient", "rates_gradient"):
        one, other = getattr(ours, name), getattr(expected, name)
        assert np.linalg.norm(one - other) <= 1e-12 * np.linalg.norm(other), name


@pytest.mark.usefixtures("in_lanes")
def test_one_step_in_float32_and_in_its_limits():
    """Several steps, each step's loss, one order or more samples than pay: every task has its weights."""
    case = of_one_step("tanh", (10, 10))
    (_, ours), (_, expected) = meta_gradients(case, "float32", steps=1)
    assert relative(ours, expected) <= 5e-6
    net = MLP((3, 40, 40, 1))
    whole = {"variant": lanes.LANES, "adapted": (0, net.parameter_count)}
    small = choices.Choices(request(net.table, **whole))
    assert small.shared == (1,)
    for other in ({"steps": 2}, {"order": 1}, {"query_loss_steps": (True, True)}, {"variant": ""}, {"rates": (1, 6)}):
        assert choices.Choices(small.request._replace(**other)).shared == ()
    assert choices.Choices(request(net.table, samples=11, **whole)).shared == ()


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_for_threads_and_memory_modes(dtype, monkeypatch):
    monkeypatch.setattr(threads, "ALONE_WORK", 0)
    narrow = Case("tasks", MLP((3, 9, 5, 2), "softplus"), "squared_error", tasks=3 * VECTOR_BYTES, support=9)
    wide = of_one_step("softplus", (9, 7), tasks=3 * VECTOR_BYTES)
    for case, steps, order in ((narrow, 1, 1), (narrow, 1, 2), (narrow, 3, 2), (wide, 1, 2)):
        theta, support, query = sets(case, dtype)
        found = []
        for count, memory in ((1, "stash"), (2, "stash"), (2, "recompute"), (1, "auto")):
            monkeypatch.setenv("FASTMETA_NUM_THREADS", str(count))
            inner = inner_loop(case.network, dtype, steps=steps)
            arguments = case.network.table, theta, support, query, inner, order, memory
            found.append(cpu.meta_gradient(*arguments))
        for other in found[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.usefixtures("in_lanes")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_task_that_diverges_is_nan_and_leaves_nothing_behind():
    """Its losses, and no other task's; then the bits of a fresh call."""
    case = Case("tasks", MLP((2, 5, 3), "tanh"), "squared_error", tasks=WIDTH + 1)
    theta, support, query = sets(case)
    wild = TaskSet(support.x, support.y.copy(), loss=support.loss)
    wild.y[1] *= np.inf
    inner = inner_loop(case.network, "float64")
    calm = cpu.meta_gradient(case.network.table, theta, support, query, inner)
    broken = cpu.meta_gradient(case.network.table, theta, wild, query, inner)
    assert np.isnan(broken.query_losses[1])
    assert np.isnan(broken.gradient).all()
    others = np.arange(case.tasks) != 1
    np.testing.assert_array_equal(broken.query_losses[others], calm.query_losses[others])
    again = cpu.meta_gradient(case.network.table, theta, support, query, inner)
    assert all(np.array_equal(a, b) for a, b in zip(again, calm, strict=True))


def request(table=None, tasks=1000, samples=10, **fields):
    shape = SetShape(samples, loss=Loss(SQUARED_ERROR))
    table = MLP((1, 40, 40, 1)).table if table is None else table
    whole = Request("meta_gradient", table.tobytes(), np.dtype(np.float32), tasks, shape, shape, steps=1)
    return whole._replace(**fields)


def test_the_rule():
    """Two full blocks of small MLPs, one and a half of one step; what is unusual goes by columns."""
    full, some = 2 * VECTOR_BYTES // 4, 3 * VECTOR_BYTES // 8
    assert lanes.takes_lanes(request())
    assert lanes.takes_lanes(request(tasks=some))
    assert not lanes.takes_lanes(request(tasks=some - 1))
    assert [lanes.takes_lanes(request(tasks=count, steps=2)) for count in (full - 1, full)] == [False, True]
    assert lanes.takes_lanes(request(tasks=some // 2, dtype=np.dtype(np.float64)))
    wider = (64 / VECTOR_BYTES) ** 0.5  # as many bytes of parameters
    larger = MLP((1, *[round(64 * wider)] * 2, 1)).table
    assert [lanes.takes_lanes(request(larger, tasks=count)) for count in (some, full - 1, full)] == [False, False, True]
    assert [lanes.takes_lanes(request(samples=45 * 64 // VECTOR_BYTES, tasks=count)) for count in (full - 1, full)] == [
        False,
        True,
    ]
    assert lanes.takes_lanes(request(query_loss_steps=(True, True), step_parameters=(1,), order=1, rates=(1, 4)))
    for unusual in ({"each_task": True}, {"each_weight": True}, {"pulled": True}, {"thetas": 1000}, {"kind": "adapt"}):
        assert not lanes.takes_lanes(request(**unusual))
    assert not lanes.takes_lanes(request(query=SetShape(10, loss=Loss(LINEAR_LOSS))))
    assert lanes.takes_lanes(request(query=SetShape(10, weighted=True, loss=Loss(HUBER, (1.0,)))))
    assert not lanes.takes_lanes(request(samples=1000))
    assert not lanes.takes_lanes(request(MLP((1, 400, 400, 1)).table))
    wide = MLP((1, *[round(100 * wider)] * 2, 1)).table
    assert [lanes.takes_lanes(request(wide, steps=s, order=o)) for s, o in ((1, 2), (1, 1), (2, 2))] == [
        True,
        False,
        False,
    ]
    assert not lanes.takes_lanes(request(BY_NAME["conv4_stride"].network.table))


def test_a_process_compiles_the_handlers_of_lanes_alone():
    assert set(handlers.LANE_HANDLERS) <= set(instruction.LAYOUTS)
    program = (
        "import fastmeta as fm, numpy as np; from fastmeta_kernels.cpu.execution import handlers; "
        f"x = np.ones(({VECTOR_BYTES}, 3, 2)); y = x[..., :1]; net = fm.MLP((2, 3, 1)); "
        "fm.meta_gradient(net, net.init(0).astype('f8'), fm.Batch(x, y, x, y), 0.1, 1); "
        "tables = (handlers.HANDLERS, False), (handlers.LANE_HANDLERS, True); "
        "print(*(sorted({n[kind] for kind in handlers.handlers(x.dtype, (), of).nonzero()[0]}) for n, of in tables))"
    )
    compiled = "['handle_lane_loss', 'handle_lane_products', 'handle_lane_vectors']"
    assert python(program).strip() == f"[] {compiled}"


def test_memory_auto_counts_the_lanes():
    """Each step's values and deltas of a whole block."""
    most = call.STASH_BYTES // (VECTOR_BYTES // 4 * stash_bytes(request()))
    assert call.fits(request(steps=most))
    assert not call.fits(request(steps=most + 1))
    assert call.fits(request(steps=most + 1, tasks=1))


@numba.njit
def call_product(ws, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, ldc, d, ldd, mask, relu, alpha):
    lane_product(ws, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, ldc, d, ldd, mask, relu, alpha)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_of_every_tile_and_tail(dtype):
    """m = 1 .. 32 and n = 1 .. 9 meet every tile, K1 K up to 600 every block of rows, both strides every transpose."""
    compile_lane_product(numba.from_dtype(np.dtype(dtype)))
    rng = np.random.default_rng(0)
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    for case in range(96):
        m, n, K1 = 1 + case % 32, 1 + case % 9, 1 + case % 2
        K = 300 if case % 24 == 0 else 1 + case % 11
        ws = rng.standard_normal((35_000, width)).astype(dtype)
        a, b, c, d, mask = 0, 20_000, 27_000, 29_000, 31_000
        ars, acs = (K + 1, 1) if case % 3 else (1, m)
        bcs, ldb = (1, n + 2) if case % 5 else (K, 1)
        a1, b1, ldc, ldd = m * (K + 1), (n + 2) * K, n + 3, (case % 2) * n
        ws[mask] = np.nan
        rows, columns, sums = np.arange(m)[:, None], np.arange(n), np.arange(K)
        A = np.stack([ws[a + k * a1 + rows * ars + sums * acs] for k in range(K1)]).astype(np.float64)
        B = np.stack([ws[b + k * b1 + sums[:, None] * ldb + columns * bcs] for k in range(K1)]).astype(np.float64)
        expected = ws[d + rows * ldd + columns] - 0.5 * np.einsum("pikw,pkjw->ijw", A, B)
        kind = case % 4
        if kind == 1:
            expected = np.maximum(expected, 0)
        if kind == 2:
            expected = np.where(ws[mask + rows * ldc + columns] <= 0, 0, expected)
        before, flat = ws.copy(), ws.reshape(-1)
        call_product(
            flat, m, n, K1, K, a, ars, acs, a1, b, bcs, ldb, b1, c, ldc, d, ldd, mask if kind == 2 else -1,
            int(kind == 1), dtype(-0.5),
        )  # fmt: skip
        places = c + rows * ldc + columns
        np.testing.assert_allclose(ws[places], expected, rtol=0, atol=40 * K1 * K**0.5 * np.finfo(dtype).eps)
        before[places] = ws[places]
        np.testing.assert_array_equal(ws, before)  # nothing else was touched


@pytest.mark.parametrize("rates", [[[0.03]], [[0.0]], [[0.05], [-0.02], [0.03]]])
def test_one_rate_in_lanes_is_that_of_columns(rates, monkeypatch):
    """Also 0 and negative, and of each step."""
    case = BY_NAME["mlp_sinusoid"]
    theta, support, query = sets(case, weighted=True)
    found = []
    for fewest in (0, 1 << 40):
        monkeypatch.setattr(lanes, "FEWEST_BLOCKS", fewest)
        call._local.__dict__.clear()
        inner = InnerLoop(3, np.array(rates), (0, theta.size))
        found.append(cpu.meta_gradient(case.network.table, theta, support, query, inner))
    call._local.__dict__.clear()
    assert relative(*found) <= 1e-13
    assert relative(found[0].rates_gradient, found[1].rates_gradient) <= 1e-12
