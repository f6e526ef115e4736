"""Which rows of a table fast backends run, and which of them take over a ReLU."""

import pytest

from fastmeta.networks.layers import Conv2d, Flatten, Linear, ReLU, Tanh
from fastmeta.networks.network import Network
from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.fused_layers import fused

NET = Network([Conv2d(3), ReLU(), ReLU(), Flatten(), Tanh(), Flatten(), Linear(2), ReLU()], (4, 4, 1))


def kinds(**options) -> list[tuple[int, bool]]:
    return [(int(row[lt.KIND]), relu) for row, relu in fused(NET.table, (lt.CONVOLUTION, lt.LINEAR), **options)]


def test_flatten_is_no_layer_and_one_relu_goes_into_the_layer_before_it():
    expected = [(lt.CONVOLUTION, True), (lt.RELU, False), (lt.TANH, False), (lt.LINEAR, True)]
    assert kinds() == expected


def test_the_last_relu_stays_where_outputs_must_not_be_rectified():
    assert kinds(fuses_last=False)[-2:] == [(lt.LINEAR, False), (lt.RELU, False)]


def test_a_backend_may_keep_a_flatten():
    kept = kinds(leaves_out=lambda table, i: table[i + 1, lt.KIND] == lt.LINEAR)
    assert [kind for kind, _ in kept].count(lt.FLATTEN) == 1


@pytest.mark.parametrize("last", [False, True])
def test_the_table_stays_as_it_is(last):
    before = NET.table.copy()
    for row, _ in fused(NET.table, (lt.LINEAR,), fuses_last=last):
        row[:] = -1
    assert (NET.table == before).all()
