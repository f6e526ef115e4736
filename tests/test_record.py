"""Records behave as frozen dataclasses do and `dataclasses` sees them so, but is not imported for them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.record import Record


class Point(Record):
    """Two numbers."""

    x: float
    y: float = 2.0
    axes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x must be at least 0.")


class Named(Point, kw_only=True, eq=False):
    """With what is given by name only."""

    name: str


@dataclasses.dataclass(frozen=True)
class Twin:
    """What a Point is like."""

    x: float
    y: float = 2.0
    axes: ClassVar[int] = 2


def test_a_record_is_made_shown_and_compared_as_a_dataclass():
    for arguments in ((1,), (1, 5)):
        assert repr(Point(*arguments)) == repr(Twin(*arguments)).replace("Twin", "Point")
    assert Point(1) == Point(x=1, y=2.0) != Point(1, 3)
    assert hash(Point(1)) == hash(Point(1, 2.0))
    assert fm.ReLU() != fm.Tanh()
    assert Point(1) != Twin(1)
    assert inspect.signature(Point).parameters.keys() == inspect.signature(Twin).parameters.keys()
    assert str(inspect.signature(Named)) == "(x, y=2.0, *, name)"


def test_dataclasses_knows_records():
    assert dataclasses.is_dataclass(Point)
    assert dataclasses.asdict(Point(1)) == dataclasses.asdict(Twin(1)) == Point(1)._asdict()
    assert [f.name for f in dataclasses.fields(Named)] == ["x", "y", "name"]
    assert dataclasses.replace(Point(1), x=4) == Point(1)._replace(x=4) == Point(4)
    with pytest.raises(ValueError, match="x must be at least 0"):
        dataclasses.replace(Point(1), x=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Point(1)._replace(z=1)


def test_a_record_is_frozen():
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to x: a Point is frozen"):
        point.x = 3
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete y"):
        del point.y
    assert point == Point(1)


@pytest.mark.parametrize(
    ("arguments", "named", "said"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
    ],
)
def test_wrong_arguments_are_named(arguments, named, said):
    with pytest.raises(TypeError, match=said):
        Point(*arguments, **named)


def test_what_is_given_by_name_only():
    assert Named(1, name="a").name == "a"
    with pytest.raises(TypeError, match="too many positional arguments"):
        Named(1, 2, "a")
    with pytest.raises(TypeError, match=r"missing a required.* argument: 'name'"):
        Named(1)


def test_a_record_of_arrays_equals_itself_alone():
    one, other = (Named(np.float64(1), np.ones(2), name="") for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2  # noqa: PT018


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))])
def test_records_are_copied_and_sent_to_other_processes(copied):
    net = fm.Conv4((28, 28, 1), 8)
    assert copied(net) == net and str(copied(net)) == str(net)  # noqa: PT018
    assert np.array_equal(copied(net).table, net.table)


def test_networks_are_compared_by_their_layers():
    named = fm.Network([fm.Linear(3)], 2, "mine", "he_normal")
    assert named == fm.Network([fm.Linear(3)], 2)
    assert hash(named) == hash(fm.Network([fm.Linear(3)], 2))


def test_networks_are_described_without_dataclasses():
    program = "import sys, fastmeta.networks.architectures; print('dataclasses' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
