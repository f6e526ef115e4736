"""What only the CPU backend can get wrong: tiles and tails, threads, stale workspaces, memory, the disk cache."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.ccallback import CFunc

from fastmeta.networks.architectures import MLP, Conv4
from fastmeta.networks.layers import BatchNorm, Linear, ReLU
from fastmeta.networks.network import Network
from fastmeta_kernels import cpu, reference
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.contract import InnerLoop, TaskSet
from fastmeta_kernels.cpu.execution import call, handlers, threads
from fastmeta_kernels.cpu.layout import instruction, layer
from fastmeta_kernels.cpu.machine import inline, jit
from fastmeta_kernels.cpu.machine.product import compile_product, masked_product
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES
from tests.cases import CASES
from tests.kernels.agreement import sets

ROOT = Path(__file__).resolve().parents[3]
MEMORY_LIMIT = 400  # MB of resident memory for 100 exact inner steps on the Omniglot network


@numba.njit
def call_product(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, relu, mask):
    masked_product(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, alpha, relu, mask)


def python(program: str, **environment: str) -> str:
    paths = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"} | environment
    done = subprocess.run([sys.executable, "-c", program], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_of_every_tile_and_tail(dtype):
    """m = 1 .. 30 meets every tile height and remainder, n = 1 .. 3 vectors every width, offsets every alignment.

    Every third has a mask, with a NaN that lets values pass.
    """
    compile_product(numba.from_dtype(np.dtype(dtype)))
    rng = np.random.default_rng(0)
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    for m in range(1, 31):
        n, K1, K = width * (1 + m % 3), 1 + m % 4, 1 + m % 6
        lda, ldb, ldc, shift = K + 3, n + m % 2, n + 5, m % 7
        ws = rng.standard_normal(25_000).astype(dtype)
        a, b, c, d = shift, 5_000 + shift, 10_000 + shift, 15_000 + shift
        mask = 20_000 + shift if m % 3 == 0 else -1
        ws[mask] = np.nan
        before, tile = ws.copy(), np.arange
        A = ws[a + tile(m)[:, None, None] * lda + tile(K1)[:, None] * m * lda + tile(K)].astype(np.float64)
        B = ws[b + (tile(K1)[:, None, None] * K + tile(K)[:, None]) * ldb + tile(n)].astype(np.float64)
        D = ws[d + tile(m)[:, None] * (m % 2) * n + tile(n)].astype(np.float64)
        expected = D - 0.5 * np.einsum("ipk,pkj->ij", A, B)
        expected = np.maximum(expected, 0) if m % 2 else expected
        if mask >= 0:
            expected = np.where(ws[mask + tile(m)[:, None] * ldc + tile(n)] <= 0, 0, expected)
        ars, acs, a1, b1, ldd = lda, 1, m * lda, K * ldb, (m % 2) * n
        call_product(ws, m, n, K1, K, a, ars, acs, a1, b, ldb, b1, c, ldc, d, ldd, dtype(-0.5), bool(m % 2), mask)
        places = c + tile(m)[:, None] * ldc + tile(n)
        np.testing.assert_allclose(ws[places], expected, rtol=0, atol=30 * np.finfo(dtype).eps)
        before[places] = ws[places]
        np.testing.assert_array_equal(ws, before)  # nothing else was touched


def conv_batch(tasks: int, queries: int, dtype: str = "float64"):
    net = Conv4(image=(28, 28, 1), channels=8, outputs=5)
    rng = np.random.default_rng(1)
    sets = [
        TaskSet(rng.random((tasks, n, 28, 28, 1)).astype(dtype), rng.integers(0, 5, (tasks, n)).astype(np.int64))
        for n in (5, queries)
    ]
    return net.table, net.init(0, dtype), *sets


def inner(steps: int, theta: np.ndarray) -> InnerLoop:
    return InnerLoop(steps, np.full((1, 1), 0.1, theta.dtype), (0, theta.size))


def test_what_a_workspace_held_before_does_not_matter():
    """NaN everywhere a kernel writes, then good data in the same workspace: the bits of a fresh one."""
    table, theta, support, query = conv_batch(3, 7)
    fresh = cpu.meta_gradient(table, theta, support, query, inner(2, theta))
    bad = TaskSet(np.full_like(support.x, np.nan), support.y)
    poisoned = cpu.meta_gradient(table, theta, bad, query, inner(2, theta))
    assert np.isnan(poisoned.query_losses).all()  # NaN reaches the loss: no ReLU or pool swallows it
    again = cpu.meta_gradient(table, theta, support, query, inner(2, theta))
    np.testing.assert_array_equal(again.gradient, fresh.gradient)
    np.testing.assert_array_equal(again.rates_gradient, fresh.rates_gradient)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_task_that_diverged_leaves_nothing_behind(case):
    """Neither to the next task of its thread nor to the next call: no NaN stays in a pad lane."""
    theta, batch = case.make()
    ranges = [(0, theta.size)]
    if isinstance(case.network.layers[-1], Linear):
        ranges.append(case.network.head)
    x, y = (np.concatenate([part[:1]] * 4) for part in (batch.x_support, batch.y_support))
    data = TaskSet(x, y)
    wild = np.stack([theta, theta, theta * 1e300, theta])

    def results(start):
        found = [cpu.loss(case.network.table, start, data), *cpu.gradient(case.network.table, start, data)]
        found.append(cpu.hvp(case.network.table, start, np.ones_like(start), data))
        for inner in (InnerLoop(3, np.full((1, 1), 0.1), adapted) for adapted in ranges):
            found += cpu.adapt(case.network.table, start, data, inner)
        return found

    calm = results(np.stack([theta] * 4))
    for found, expected in zip(results(wild), calm, strict=True):
        np.testing.assert_array_equal(found[[0, 1, 3]], expected[[0, 1, 3]])
    inner = InnerLoop(2, np.full((1, 1), 0.1), (0, theta.size))
    first = cpu.meta_gradient(case.network.table, theta, data, data, inner)
    cpu.meta_gradient(case.network.table, theta * 1e300, data, data, inner)
    again = cpu.meta_gradient(case.network.table, theta, data, data, inner)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("backend", [cpu, reference])
def test_batch_norm_of_a_constant_is_its_shift_and_of_an_overflow_nan(backend):
    net = Network([BatchNorm(), ReLU(), Linear(1)], (3,))
    theta = net.init(0, "float32")
    net.views(theta)["linear1.bias"][...] = 7
    constant = np.full((1, 7, 3), 0.1, np.float32)
    np.testing.assert_array_equal(backend.predict(net.table, theta, constant), np.full((1, 7, 1), 7, np.float32))
    wild = constant * np.arange(7, dtype=np.float32)[:, None] * np.float32(1e21)
    with np.errstate(all="ignore"):
        assert np.isnan(backend.predict(net.table, theta, wild)).all()


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    program = (
        "import numpy as np; from fastmeta_kernels import cpu; from fastmeta import MLP; net = MLP((1, 4, 1));"
        "print(cpu.predict(net.table, net.init(), np.ones((1, 2, 1), np.float32)).ravel()[0])"
    )
    files = []
    for hash_seed in ("1", "2"):
        python(program, NUMBA_CACHE_DIR=str(tmp_path), PYTHONHASHSEED=hash_seed)
        files.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")})
    assert files[0] == files[1]
    assert len(files[0]) >= 8


def test_networks_and_sizes_take_turns():
    """A workspace belongs to one plan: another network or batch in between leaves no trace."""
    for _ in range(2):
        for queries in (3, 8):
            table, theta, support, query = conv_batch(2, queries)
            ours = cpu.meta_gradient(table, theta, support, query, inner(1, theta)).gradient
            theirs = reference.meta_gradient(table, theta, support, query, inner(1, theta)).gradient
            assert np.linalg.norm(ours - theirs) <= 1e-12 * np.linalg.norm(theirs)


def test_the_same_bits_for_one_and_two_threads():
    program = (
        "import hashlib, numpy as np, fastmeta as fm;"
        "net = fm.Conv4(channels=8); theta = net.init(); rng = np.random.default_rng(0);"
        "x = rng.random((7, 5, 28, 28, 1), np.float32); y = np.tile(np.arange(5), (7, 1));"
        "r = fm.meta_gradient(net, theta, fm.Batch(x, y, x[::-1], y), 0.1, 2);"
        "print(hashlib.sha256(r.gradient.tobytes() + np.float64(r.inner_lr_gradient).tobytes()).hexdigest())"
    )
    assert python(program, FASTMETA_NUM_THREADS="1") == python(program, FASTMETA_NUM_THREADS="2")


@pytest.mark.parametrize("name", ["mlp_sinusoid", "mlp_63_relu", "mlp_odd_tanh", "flatten_first"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_rate_of_an_mlp(name, dtype, monkeypatch):
    """Also 0 and negative, of each step, with losses of each step: the reference's values, and the same bits always.

    The same rate for each parameter array takes the way that other networks take.
    """
    case = next(case for case in CASES if case.name == name)
    table, (theta, batch) = case.network.table, case.make(dtype, weighted=True)
    support = TaskSet(batch.x_support, batch.y_support, batch.support_weights)
    query = TaskSet(batch.x_query, batch.y_query, batch.query_weights)
    limit = 1e-12 if dtype == "float64" else 2e-5
    monkeypatch.setattr(threads, "ALONE_WORK", 0)
    for rates in ([[0.03]], [[0.0]], [[0.05], [-0.02], [0.03]]):
        column = np.array(rates, dtype)
        for weights in (None, np.array([0.2, 0, 0.5, 0.3], dtype)):
            found = []
            for threads_used, memory, width in ((1, "stash", 1), (2, "stash", 1), (1, "recompute", 1), (1, "stash", 2)):
                monkeypatch.setenv("FASTMETA_NUM_THREADS", str(threads_used))
                alpha = np.repeat(column, 1 if width == 1 else len(case.network.parameter_shapes), axis=1)
                loop = InnerLoop(3, alpha, (0, theta.size))
                found.append(cpu.meta_gradient(table, theta, support, query, loop, 2, memory, weights))
            *same, by_array = found
            for other in same[1:]:
                assert all(np.array_equal(a, b) for a, b in zip(same[0], other, strict=True))
            by_array = by_array._replace(rates_gradient=by_array.rates_gradient.sum(axis=1, keepdims=True))
            loop = InnerLoop(3, column, (0, theta.size))
            for expected in (
                by_array,
                reference.meta_gradient(table, theta, support, query, loop, 2, "stash", weights),
            ):
                for a, b in zip(same[0], expected, strict=True):
                    assert np.linalg.norm(a - b) <= limit * np.linalg.norm(b) + np.finfo(dtype).tiny


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc, which Linux has")
def test_memory_of_a_hundred_exact_steps():
    """One exact meta-gradient of 100 inner steps on the Omniglot network, 5-way 1-shot with 75 queries."""
    program = (
        "import numpy as np, fastmeta as fm;"
        "net = fm.Conv4(); theta = net.init(); rng = np.random.default_rng(0);"
        "x = rng.random((2, 80, 28, 28, 1), np.float32); y = np.tile(np.arange(5), (2, 16));"
        "fm.meta_gradient(net, theta, fm.Batch(x[:, :5], y[:, :5], x[:, 5:], y[:, 5:]), 0.01, 100, memory='recompute');"
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024)"
    )
    # a process that finds no machine code on disk compiles: the compiler's memory is not the gradient's
    assert min(float(python(program)) for _ in range(3)) < MEMORY_LIMIT


def test_thread_count_says_what_it_takes(monkeypatch):
    monkeypatch.setenv("FASTMETA_NUM_THREADS", "none")
    with pytest.raises(ValueError, match=r'FASTMETA_NUM_THREADS="none" must be a whole number of at least 1\.'):
        cpu.thread_count()


def test_a_changed_helper_changes_the_stamp_of_the_cache(tmp_path):
    shutil.copytree(ROOT / "kernels" / "fastmeta_kernels", tmp_path / "fastmeta_kernels")
    program = "from fastmeta_kernels.cpu.machine.jit import SOURCE_STAMP; print(SOURCE_STAMP)"
    first = python(program, PYTHONPATH=str(tmp_path))
    assert python(program, PYTHONPATH=str(tmp_path)) == first
    other = "32" if VECTOR_BYTES == 16 else "16"
    assert python(program, PYTHONPATH=str(tmp_path), FASTMETA_VECTOR_BYTES=other) != first
    helper = tmp_path / "fastmeta_kernels" / "cpu" / "losses" / "losses.py"
    helper.write_text(helper.read_text("utf-8").replace("2.0 * w * e", "3.0 * w * e"), "utf-8")
    assert python(program, PYTHONPATH=str(tmp_path)) != first
    cpu.predict(*(lambda net: (net.table, net.init(0)))(MLP((1, 1))), np.ones((1, 1, 1), np.float32))
    assert {one._cache._impl.locator.get_source_stamp() for one in jit._kept} == {jit.SOURCE_STAMP}  # Numba asks for it


def test_kinds_of_this_backend_are_none_of_the_layer_table():
    kinds = {value for name, value in vars(lt).items() if name.isupper() and isinstance(value, int)}
    assert max(kinds) < min(layer.NARROW, layer.WINOGRAD, layer.POOLED_NORM)


def test_machine_code_shows_its_entry_point_alone():
    """Numba's names are those of a process: objects of two processes may hold different functions of one name."""

    @jit.kernel
    def helper(x):
        total = 0.0
        for i in range(x.size):
            total += np.tanh(x[i])
        return total

    def program(x, size):
        return helper(numba.carray(x, size)) + helper(numba.carray(x, size - 1))

    of = numba.types.float64(numba.types.CPointer(numba.types.float64), numba.types.int64)
    compiled = CFunc(program, (of.args, of.return_type), locals={}, options={}, pipeline_class=inline.SymbolCompiler)
    compiled.compile()
    made = [function for function in compiled._library._final_module.functions if not function.is_declaration]
    assert len(made) > 1
    assert [one.name for one in made if one.linkage.name != "internal"] == [compiled.native_name]
    assert compiled.ctypes((ctypes.c_double * 2)(0.0, 1.0), 2) == np.tanh(1.0)


def test_every_kind_of_instruction_has_a_handler_and_an_unknown_one_runs_nothing(monkeypatch):
    """One more kind behind the last is nobody else's kernel: it is refused before a job has it."""
    assert set(handlers.HANDLERS) == set(instruction.LAYOUTS)
    assert max(instruction.LAYOUTS) < handlers.MOST_KINDS
    case = next(case for case in CASES if case.name == "conv4_stride")
    theta, _, query = sets(case)
    written = call.program

    def with_unknown(request):
        found = written(request)
        more = found.code[:1].copy()
        more.view(instruction.ANY)["op"] = 100
        return found._replace(code=np.concatenate([found.code, more]))

    monkeypatch.setattr(call, "program", with_unknown)
    call._local.__dict__.clear()
    with pytest.raises(KeyError, match="100"):
        cpu.gradient(case.network.table, theta, query)


def test_a_process_compiles_the_handlers_of_its_networks_layers():
    program = (
        "import fastmeta as fm, numpy as np; from fastmeta_kernels import cpu; from fastmeta_kernels.cpu.execution "
        "import handlers; x = np.ones((1, 3, 2)); net = fm.MLP((2, 3, 1)); "
        "cpu.predict(net.table, net.init(0).astype('f8'), x); table = handlers.handlers(x.dtype, ()); "
        "print(*sorted({handlers.HANDLERS[kind] for kind in table.nonzero()[0]}))"
    )
    assert python(program).split() == ["handle_dots", "handle_parameters", "handle_products", "handle_samples"]


def test_a_seen_call_makes_few_calls_in_python():
    """A bar that no load moves; 53 and 15 us when it was set."""
    net = MLP((1, 40, 40, 1))
    x = np.ones((1, 10, 1), np.float32)
    data, theta = TaskSet(x, x), net.init(0).astype(np.float32)
    inner = InnerLoop(1, np.full((1, 1), 0.01, np.float32), (0, net.parameter_count))
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    for _ in range(2):
        cpu.meta_gradient(net.table, theta, data, data, inner)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        cpu.meta_gradient(net.table, theta, data, data, inner)
    finally:
        sys.setprofile(before)
    assert counted <= 60
