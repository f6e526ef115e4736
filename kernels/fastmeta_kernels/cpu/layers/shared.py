"""A linear layer of tasks in lanes with one inner step, in which no task has weights of its own.

Behind the step they are W - alpha x^T dy, of theta's W and the support set's x and dy: what the query set does with
them, and what the tangents do with v = x_q^T dy_q, are products with W and with the small E = x_q x^T and
F = dy_q dy^T (M, N). Written like `in_lanes`, whose products these are; the other set lies behind register X.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastmeta_kernels.cpu.layers import in_lanes
from fastmeta_kernels.cpu.layers.products import multiply
from fastmeta_kernels.cpu.layout.instruction import NONE, Code, Operand, X, at
from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.places import ADD, RATED, SIGNED, Into, Places

MOVED = ADD | SIGNED | RATED  # += sign * rate * (...)


@dataclass(frozen=True)
class _Shared:
    """The same layer of the other set, and where E and F lie."""

    other: Layer
    e: Operand
    f: Operand
    RECTIFIES: bool = field(default=False, init=False)
    MASKS_INPUTS: bool = field(default=True, init=False)


class Query(_Shared):
    """The layer of the query set: theta's weight lies behind register U, the moved bias behind P."""

    def forward(self, code: Code, layer: Layer, at_: Places) -> None:
        """y = x W + b - alpha E dy_s."""
        (m, n), (c, o) = (layer.n, self.other.n), (layer.c, layer.oc)
        x, dy = at(X, self.other.x), at(X, self.other.dy)
        multiply(code, (m, o, 1, c), (at_.x, c, 1, 0), (at_.weight_dot, o, 0), (at_.y, o), at_.bias)
        multiply(code, (m, n, 1, c), (at_.x, c, 1, 0), (x, 1, 0), (self.e, n), bcs=c)
        multiply(code, (m, o, 1, n), (self.e, n, 1, 0), (dy, o, 0), (at_.y, o), NONE, layer.relu, MOVED)

    def backward(self, code: Code, layer: Layer, at_: Places, into: Into | None, transpose: bool) -> None:
        """dW = x^T dy, db = sum over samples of dy, dx = dy W^T - alpha F x_s; 0 but where the mask is positive."""
        (m, n), (c, o) = (layer.n, self.other.n), (layer.c, layer.oc)
        x, dy = at(X, self.other.x), at(X, self.other.dy)
        if into:
            in_lanes.weight_gradient(code, layer, at_, into)
        multiply(code, (m, c, 1, o), (at_.dy, o, 1, 0), (at_.weight_dot, 1, 0), (at_.dx, c), bcs=o)
        multiply(code, (m, n, 1, o), (at_.dy, o, 1, 0), (dy, 1, 0), (self.f, n), bcs=o)
        multiply(code, (m, c, 1, n), (self.f, n, 1, 0), (x, c, 0), (at_.dx, c), flags=MOVED, mask=at_.mask)

    def forward_tangent(self, code: Code, layer: Layer, at_: Places) -> None:
        """None is asked for."""

    def backward_tangent(self, code: Code, layer: Layer, at_: Places, into: Into) -> None:
        """None is asked for."""


class Support(_Shared):
    """The layer of the support set; its direction is v, the query loss's gradient."""

    def forward(self, code: Code, layer: Layer, at_: Places) -> None:
        """y = x W + b."""
        in_lanes.forward(code, layer, at_)

    def backward(self, code: Code, layer: Layer, at_: Places, into: Into | None, transpose: bool) -> None:
        """dx = dy W^T."""
        in_lanes.backward(code, layer, at_, into, transpose)

    def step(self, code: Code, layer: Layer, at_: Places, into: Into) -> None:
        """The bias alone moves: b - alpha times the sum over samples of dy."""
        a, b = (at_.x, 1, layer.c, 0), (at_.dy, layer.oc, 0)
        shape = 0, layer.oc, 1, layer.n
        multiply(code, shape, a, b, (into.weight, layer.oc), into.base, flags=into.flags, sums=into.bias)

    def forward_tangent(self, code: Code, layer: Layer, at_: Places) -> None:
        """y_dot = x_dot W + b_dot + E^T dy_q; 0 but where the ReLU that it took over passes."""
        (n, m), (c, o) = (layer.n, self.other.n), (layer.c, layer.oc)
        mask = at_.y if layer.relu else NONE
        multiply(code, (n, o, 1, c), (at_.x_dot, c, 1, 0), (at_.weight, o, 0), (at_.y_dot, o), at_.bias_dot)
        b = at(X, self.other.dy), o, 0
        multiply(code, (n, o, 1, m), (self.e, 1, n, 0), b, (at_.y_dot, o), flags=ADD, mask=mask)

    def backward_tangent(self, code: Code, layer: Layer, at_: Places, into: Into) -> None:
        """dx_dot = dy_dot W^T + F^T x_q, and then dW_dot."""
        (n, m), (c, o) = (layer.n, self.other.n), (layer.c, layer.oc)
        multiply(code, (n, c, 1, o), (at_.dy_dot, o, 1, 0), (at_.weight, 1, 0), (at_.dx_dot, c), bcs=o)
        b = at(X, self.other.x), c, 0
        multiply(code, (n, c, 1, m), (self.f, 1, n, 0), b, (at_.dx_dot, c), flags=ADD, mask=at_.mask)
        in_lanes.gradient_tangent(code, layer, at_, into)
