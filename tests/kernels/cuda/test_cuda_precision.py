"""FASTMETA_CUDA_PRECISION: the same source with tensor cores emulated, their rounding and cut-off sums too."""

import numpy as np
import pytest

from fastmeta_kernels import reference
from fastmeta_kernels.cuda.execution import call as execution
from tests.gradcheck import relative
from tests.kernels.agreement import BY_NAME, inner_loop, named, sets, smooth_seed

SMOOTH = [BY_NAME[name] for name in ("norm_bias_tanh", "wide_channels", "norm_on_vectors")]


def _error(backend, case, steps=2, seed=0):
    """Relative error of the float32 meta-gradient against the reference in float64."""
    found = []
    for module, dtype in ((backend, "float32"), (reference, "float64")):
        theta, support, query = sets(case, dtype, seed)
        inner = inner_loop(case.network, dtype, steps=steps)
        found.append(module.meta_gradient(case.network.table, theta, support, query, inner).gradient)
    return relative(*found)


@pytest.mark.parametrize("case", [*SMOOTH, BY_NAME["conv4_stride"]], ids=named)
def test_three_tf32_products_keep_the_grade_of_float32(cuda, monkeypatch, case):
    seed = smooth_seed(case)
    plain = _error(cuda, case, seed=seed)
    monkeypatch.setenv("FASTMETA_CUDA_PRECISION", "3xtf32")
    split = _error(cuda, case, seed=seed)
    assert split != plain
    assert split <= max(3 * plain, 1e-6)


@pytest.mark.parametrize("case", SMOOTH, ids=named)
def test_tf32_has_an_error_of_its_size(cuda, monkeypatch, case):
    monkeypatch.setenv("FASTMETA_CUDA_PRECISION", "tf32")
    assert 2e-5 <= _error(cuda, case) <= 1e-2


@pytest.mark.parametrize("precision", ["3xtf32", "tf32"])
def test_blocks_and_threads_in_any_order_give_the_same_bits(cuda_on_cpu, cupy_on_cpu, monkeypatch, precision):
    monkeypatch.setenv("FASTMETA_CUDA_PRECISION", precision)
    case = BY_NAME["kernel_5_stride_3"]
    theta, _, query = sets(case, "float32", weighted=True)
    results = []
    for cupy_on_cpu.order in (0, 1, 5):
        results.append(cuda_on_cpu.gradient(case.network.table, theta, query))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_float64_has_one_precision_and_an_unknown_one_is_named(cuda, monkeypatch):
    case = BY_NAME["norm_bias_tanh"]
    theta, support, _ = sets(case)
    expected = cuda.loss(case.network.table, theta, support)
    monkeypatch.setenv("FASTMETA_CUDA_PRECISION", "tf32")
    assert np.array_equal(cuda.loss(case.network.table, theta, support), expected)
    assert execution.latest().program.request.variant == "fp32"
    monkeypatch.setenv("FASTMETA_CUDA_PRECISION", "half")
    theta, support, _ = sets(case, "float32")
    message = 'FASTMETA_CUDA_PRECISION="half" must be one of "fp32", "3xtf32", "tf32".'
    with pytest.raises(ValueError, match=message):
        cuda.loss(case.network.table, theta, support)
