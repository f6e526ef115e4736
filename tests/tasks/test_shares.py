"""A share of a meta-batch has the bits of the whole."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.algorithms.transfer.minibatches import Minibatches
from fastmeta.tasks.shares import cut, share


def sources() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 9)
    x = rng.normal(size=(54, 4)).astype(np.float32)
    described = rng.normal(size=(6, 3))
    labelled = fm.tasks.from_arrays(x, y, ways=3, shots=(1, 3), queries=(2, 4))
    people = np.tile(np.arange(3), 18)
    return {
        "sinusoid": fm.tasks.Sinusoid(shots=3, queries=4),
        "labelled": labelled,
        "described": fm.tasks.from_arrays(x, y, ways=3, shots=1, queries=2, attributes=described),
        "grouped": fm.tasks.from_groups(x, np.arange(54) // 3 % 2, people, shots=2, queries=3),
        "regression": fm.tasks.from_groups(x, x[:, 0], people, shots=2, queries=3),
        "attributes": fm.tasks.AttributeClasses(),
        "minibatches": Minibatches(labelled, 5),
    }


@pytest.mark.parametrize("name", sources())
@pytest.mark.parametrize(("tasks", "begin", "end"), [(7, 0, 7), (7, 2, 3), (7, 6, 7), (25, 12, 25), (130, 1, 129)])
def test_a_share_is_what_all_would_be(name, tasks, begin, end):
    source = sources()[name]
    whole, some = source.sample(tasks, 3, 2), share(source, tasks, begin, end, 3, 2)
    assert len(some) == end - begin
    for field in fields(fm.Batch):
        expected, found = (getattr(batch, field.name) for batch in (cut(whole, begin, end), some))
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected, strict=True)
