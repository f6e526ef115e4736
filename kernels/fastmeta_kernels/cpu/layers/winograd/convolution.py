"""y = x * W of 3 x 3 taps by Winograd's small products, as instructions: one for each pair of weights of two sides.

Stride 1 goes by tiles, stride 2 by the phases of whole images. Transformed weights stay in their set for the tangents.
The gradient of a weight is the adjoint, summed over fixed parts of the tiles or images. A tangent is one product of two
pairs, as in `linear`.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layers import convolution
from fastmeta_kernels.cpu.layers.products import transposed
from fastmeta_kernels.cpu.layout.instruction import (
    NONE,
    OWN,
    PHASES,
    PHASES_GRADIENT,
    PHASES_SUMS,
    PHASES_WEIGHT,
    WINOGRAD,
    WINOGRAD_GRADIENT,
    WINOGRAD_SUMS,
    WINOGRAD_WEIGHT,
    Code,
    Operand,
)
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import Into, Places
from fastmeta_kernels.cpu.layout.winograd import TAPS, scheme, weights

RECTIFIES, MASKS_INPUTS = False, False
BY_PHASES = {
    WINOGRAD: PHASES, WINOGRAD_WEIGHT: PHASES_WEIGHT, WINOGRAD_SUMS: PHASES_SUMS, WINOGRAD_GRADIENT: PHASES_GRADIENT,
}  # fmt: skip
Pair = tuple[Operand, Operand]  # the second is NONE where there is one factor only


def forward(code: Code, layer: Layer, at: Places) -> None:
    """y = x * W + b."""
    u = _transformed(code, layer, at.weight, _behind(layer, at.transposed, 1))
    _convolve(code, layer, (at.x, NONE), (u, NONE), at.bias, at.y, layer.relu)


def forward_tangent(code: Code, layer: Layer, at: Places) -> None:
    """y_dot = x * W_dot + x_dot * W + b_dot, after `forward` of the same set."""
    if not at.inner:
        u = _transformed(code, layer, at.weight_dot, _behind(layer, at.transposed, 1))
        _convolve(code, layer, (at.x, NONE), (u, NONE), at.bias_dot, at.y_dot)
        return
    u_dot = _transformed(code, layer, at.weight_dot, _behind(layer, at.transposed_dot, 1))
    pair = u_dot, _behind(layer, at.transposed, 1)
    _convolve(code, layer, (at.x, at.x_dot), pair, at.bias_dot, at.y_dot)


def transpose_weight(code: Code, layer: Layer, w: Operand, t: Operand) -> None:
    """The transposed taps, in falling order where the adjoint goes by tiles too, and behind them their transform."""
    if layer.stride == 1:
        convolution.transpose_weight(code, layer, w, t)
    else:
        size = layer.cp * layer.ocp
        for tap in range(TAPS * TAPS):
            transposed(code, w.behind(tap * size), layer.ocp, t.behind(tap * size), layer.cp, layer.cp, layer.ocp)
    _transformed(code, layer, t, _behind(layer, t, 0))


def backward(code: Code, layer: Layer, at: Places, into: Into | None, transpose: bool) -> None:
    """dW and db, and dx = dy * W^T."""
    if into:
        _weight_gradient(code, layer, (at.x, NONE), (at.dy, NONE), into)
        convolution.bias_gradient(code, layer, at.dy, into)
    if not at.inner:
        return
    if transpose:
        transpose_weight(code, layer, at.weight, at.transposed)
    _convolve(code, layer, (at.dy, NONE), (_behind(layer, at.transposed, 0), NONE), NONE, at.dx, back=True)


def backward_tangent(code: Code, layer: Layer, at: Places, into: Into) -> None:
    """dW_dot from x and dy_dot and from x_dot and dy; dx_dot = dy * W_dot^T + dy_dot * W^T."""
    second = (at.x_dot, at.dy) if at.inner else (NONE, NONE)
    _weight_gradient(code, layer, (at.x, second[0]), (at.dy_dot, second[1]), into)
    convolution.bias_gradient(code, layer, at.dy_dot, into)
    if at.inner:
        transpose_weight(code, layer, at.weight_dot, at.transposed_dot)
        pair = _behind(layer, at.transposed_dot, 0), _behind(layer, at.transposed, 0)
        _convolve(code, layer, (at.dy, at.dy_dot), pair, NONE, at.dx_dot, back=True)


def _behind(layer: Layer, t: Operand, which: int) -> Operand:
    """What lies behind the transposed taps of a set: their transform (0) and that of the weight (1)."""
    return t.behind(layer.cp * layer.ocp * (TAPS * TAPS + which * weights(layer.stride) ** 2))


def _transformed(code: Code, layer: Layer, w: Operand, u: Operand) -> Operand:
    _add(code, WINOGRAD_WEIGHT, layer, a=w, out=u)
    return u


def _convolve(
    code: Code, layer: Layer, x: Pair, u: Pair, bias: Operand, y: Operand, relu: bool = False, back: bool = False
) -> None:
    """y = x[0] * u[0] + x[1] * u[1] + bias. back: from outputs to inputs."""
    factors: dict[str, int] = {
        "x": x[0],
        "x2": x[1],
        "u": u[0],
        "u2": u[1],
        "bias": bias,
        "y": y,
        "relu": relu,
        "back": back,
    }
    if layer.stride == 1:
        factors["shift"] = TAPS - 1 - layer.padding if back else layer.padding
    _add(code, WINOGRAD, layer, **factors, **_schemes(layer))


def _weight_gradient(code: Code, layer: Layer, x: Pair, dy: Pair, into: Into) -> None:
    sums = {"sums": layer.sums, "parts": layer.parts}
    factors: dict[str, int] = {"x": x[0], "x2": x[1], "dy": dy[0], "dy2": dy[1]}
    if layer.stride == 1:
        factors["padding"] = layer.padding
    _add(code, WINOGRAD_SUMS, layer, **factors, **sums, **_schemes(layer))
    _add(code, WINOGRAD_GRADIENT, layer, out=into.weight, add=into.adds, **sums)


def _add(code: Code, kind: int, layer: Layer, **fields: int) -> None:
    """An instruction by tiles, or the same by phases."""
    kind = kind if layer.stride == 1 else BY_PHASES[kind]
    code.add(kind, OWN, layer, **fields, panel=layer.panel)


def _schemes(layer: Layer) -> dict[str, int]:
    return {"scheme_y": scheme(layer.h), "scheme_x": scheme(layer.w)} if layer.stride == 2 else {}
