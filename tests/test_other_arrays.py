"""Arrays of other libraries, which speak DLPack or `__array__`, are inputs at every door."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta import checks
from tests import test_masked


class Spoken:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values)

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()


class Converted:
    """An array that NumPy makes one of by `__array__`, as PyTorch's and JAX's do."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype)


class Both(Spoken, Converted):
    """Either."""


def arrays_in(found: Any, seen: set[int] | None = None) -> list[np.ndarray]:
    """All arrays that a result holds, in a fixed order."""
    seen = set() if seen is None else seen
    if isinstance(found, np.ndarray | np.generic | float):
        return [np.asarray(found)]
    if id(found) in seen:
        return []
    seen.add(id(found))
    parts: list[Any] = []
    if isinstance(found, dict):
        parts = list(found.values())
    elif isinstance(found, list | tuple):
        parts = list(found)
    elif is_dataclass(found):
        parts = [getattr(found, f.name) for f in fields(found)]
    elif isinstance(found, fm.Learner):
        parts = [found.parameters] if found._training else [found.get_params()]
    return [array for part in parts for array in arrays_in(part, seen)]


def through(door: Any) -> list[np.ndarray] | str:
    """The arrays of what a door gives, or what it says where its samples are too few."""
    try:
        return arrays_in(door())
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("kind", [Spoken, Converted, Both])
@pytest.mark.parametrize("door", test_masked.DOORS)
def test_every_door_takes_them(door, kind, monkeypatch):
    wrapped = []

    def other(values):
        wrapped.append(kind(values))
        return wrapped[-1]

    monkeypatch.setattr(test_masked, "hidden", np.array)
    expected = through(test_masked.DOORS[door])
    monkeypatch.setattr(test_masked, "hidden", other)
    found = through(test_masked.DOORS[door])
    assert wrapped
    if isinstance(expected, str):
        assert found == expected
        return
    assert expected
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def test_they_are_read_where_they_lie():
    values = np.arange(6.0)
    other = Spoken(values)
    assert np.shares_memory(checks.array("x", other), other._values)


def test_a_state_dict_of_them():
    net = fm.MLP((2, 3, 1))
    state = {name: Spoken(values) for name, values in fm.to_state_dict(net, net.init(0)).items()}
    assert np.array_equal(fm.from_state_dict(net, state), net.init(0))


@pytest.mark.parametrize("protocol", ["__array__", "__dlpack__"])
@pytest.mark.parametrize("error", [RuntimeError, BufferError, TypeError, ValueError])
def test_what_cannot_be_read_says_what_to_do(protocol, error):
    class Tensor:
        pass

    def refuse(*_, **__):
        raise error("Can't call numpy() on Tensor that requires grad.")

    setattr(Tensor, protocol, refuse)
    Tensor.__dlpack_device__ = lambda self: (1, 0)
    with pytest.raises(
        TypeError, match=r"x must be an array .*Tensor says: Can't call .*x\.detach\(\)\.cpu\(\)\.float"
    ):
        checks.array("x", Tensor())


def test_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is in the environment of the benchmarks")
    x, y = torch.rand(12, 4), torch.arange(12) % 3
    tasks = fm.tasks.from_arrays(x, y, ways=3, shots=1, queries=2)
    maml = fm.MAML(fm.MLP((4, 5, 3)), 0.1, device="numpy").fit(tasks, 2)
    model = maml.adapt(x[:3], y[:3])
    assert np.array_equal(model.predict(x), model.predict(x.numpy()))
    with pytest.raises(TypeError, match=r"x must be an array .*requires grad"):
        model.predict(x.requires_grad_())
    with pytest.raises(TypeError, match="x must be an array"):
        model.predict(x.detach().bfloat16())


def test_jax():
    jnp = pytest.importorskip("jax.numpy", reason="JAX is in the environment of the benchmarks")
    x, net = jnp.ones((3, 4)), fm.MLP((4, 5, 3))
    assert np.array_equal(fm.predict(net, jnp.asarray(net.init(0)), x), fm.predict(net, net.init(0), np.ones((3, 4))))
