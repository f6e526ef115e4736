"""y = x W + b as instructions. An image is flattened as it lies: W is (H, W, CP, OCP).

A tangent of a product is two products of one shape, summed by one whose outer level K1 = 2 steps from the first pair of
operands to the second. What it passes back, and its tangent, it masks by the ReLU that made its input or output.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers.products import BY_ROWS, PAIR, multiply, transposed
from fastmeta_kernels.cpu.layout.instruction import NONE, Code, Operand
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import ADD, Into, Places

RECTIFIES, MASKS_INPUTS = False, True


def pieces(layer: Layer) -> tuple[int, int]:
    """Pieces in which one sample's input lies, and scalars of a piece: without padding where it can be left out."""
    line = layer.w * layer.cp
    if layer.h * layer.w == 1:
        return 1, layer.c
    return (1, layer.h * line) if layer.x_r == line else (layer.h, line)


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x W + b."""
    _map(code, layer, at.x, at.weight, at.bias, at.y, relu=layer.relu)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x W_dot + x_dot W + b_dot; 0 but where the ReLU that it took over passes."""
    mask = at.y if layer.relu else NONE
    count, depth = pieces(layer)
    if not at.inner:
        _map(code, layer, at.x, at.weight_dot, at.bias_dot, at.y_dot, mask=mask)
    elif count > 1:
        _map(code, layer, at.x, at.weight_dot, at.bias_dot, at.y_dot)
        _map(code, layer, at.x_dot, at.weight, NONE, at.y_dot, add=True, mask=mask)
    else:
        a, b = (at.x, layer.x_n, 1, at.x_dot), (at.weight_dot, layer.ocp, at.weight)
        shape, c = (layer.n, layer.ocp, 2, depth), (at.y_dot, layer.y_n)
        multiply(code, shape, a, b, c, at.bias_dot, flags=BY_ROWS | PAIR, mask=mask)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """t[h, o, (w c)] = W[h, (w c), o]."""
    line, o = layer.w * layer.cp, layer.ocp
    for h in range(layer.h):
        transposed(code, w.behind(h * line * o), o, t.behind(h * line * o), line, line, o)


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW = x^T dy, db = sum over samples of dy, dx = dy W^T."""
    if into:
        weight_gradient(code, layer, at, into)
    if not at.inner:
        return
    if transpose:
        transpose_weight(code, layer, at.weight, at.transposed)
    line, o = layer.w * layer.cp, layer.ocp
    for h in range(layer.h):
        b, c = (at.transposed.behind(h * line * o), line, 0), (at.dx.behind(h * layer.x_r), layer.x_n)
        a, mask = (at.dy, layer.y_n, 1, 0), at_row(at.mask, layer, h)
        multiply(code, (layer.n, line, 1, layer.oc), a, b, c, flags=BY_ROWS, mask=mask)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dx_dot = dy W_dot^T + dy_dot W^T, and then dW_dot: the direction may be what it is added to."""
    if at.inner:
        input_tangent(code, layer, at, at.dx_dot)
    (count, depth), o = pieces(layer), layer.ocp
    for h in range(count):
        shift = h * layer.x_r
        a, b = (at.x.behind(shift), 1, layer.x_n, 0), (at.dy_dot, layer.y_n, 0)
        if at.inner:
            a, b = (*a[:3], at.x_dot.behind(shift)), (*b[:2], at.dy)
        pair = 2 if at.inner else 1
        _gradient(code, (depth, o, pair, layer.n), a, b, into, h, PAIR if at.inner else 0)


def input_tangent(code: Code, layer: Layer, at: Places, to: Operand, flags: int = 0) -> None:
    """to = dy W_dot^T + dy_dot W^T; with flags times the sign, or added."""
    transpose_weight(code, layer, at.weight_dot, at.transposed_dot)
    line, o = layer.w * layer.cp, layer.ocp
    for h in range(layer.h):
        block = h * line * o
        b = at.transposed_dot.behind(block), line, at.transposed.behind(block)
        a, c = (at.dy, layer.y_n, 1, at.dy_dot), (to.behind(h * layer.x_r), layer.x_n)
        mask = at_row(at.mask, layer, h)
        multiply(code, (layer.n, line, 2, layer.oc), a, b, c, flags=flags | BY_ROWS | PAIR, mask=mask)


def weight_gradient(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW = x^T dy and db = sum over samples of dy."""
    (count, depth), o = pieces(layer), layer.ocp
    for h in range(count):
        a = at.x.behind(h * layer.x_r), 1, layer.x_n, 0
        _gradient(code, (depth, o, 1, layer.n), a, (at.dy, layer.y_n, 0), into, h, 0)


def _map(
    code: Code, layer: Layer, x: Operand, w: Operand, bias: Operand, y: Operand, relu: bool = False, add: bool = False,
    mask: Operand = NONE,
) -> None:  # fmt: skip
    """y = x W + bias, or y += x W; 0 but where the mask is positive."""
    (count, depth), o = pieces(layer), layer.ocp
    a, b = (x, layer.x_n, 1, layer.x_r), (w, o, depth * o)
    c = (y, layer.y_n)
    flags = BY_ROWS | (ADD if add else 0)
    multiply(code, (layer.n, o, count, depth), a, b, c, bias, relu, flags, mask=mask)


def _gradient(
    code: Code,
    shape: tuple[int, int, int, int],
    a: tuple[Operand, int, int, int],
    b: tuple[Operand, int, int],
    into: Into,
    h: int,
    flags: int,
) -> None:
    """Piece h of a weight's gradient, and with the first the bias's."""
    shift = h * shape[0] * shape[1]
    d = into.base.behind(shift) if into.base else NONE
    bias = into.bias if h == 0 else NONE
    c = into.weight.behind(shift), shape[1]
    multiply(code, shape, a, b, c, d, flags=flags | BY_ROWS | into.flags, sums=bias)


def at_row(mask: Operand, layer: Layer, h: int) -> Operand:
    """A mask, if there is one, from image row h on."""
    return mask.behind(h * layer.x_r) if mask else NONE
