"""Passes through a network, row by row, as instructions: forward, backward with weight gradients, both tangents.

Parameters lie behind register P, a set behind S, a direction behind U, the tangent set behind R, a gradient behind G.
A set holds values and deltas of every position; the tangent set holds theirs at the same places. `begin` and `end` cut
a network in two: the body of ANIL and its head, which reads the body's features behind register X.
"""

from __future__ import annotations

from types import ModuleType

from fastmeta_kernels import layer_table as lt
from fastmeta_kernels.cpu.layers import affine, convolution, linear, narrow
from fastmeta_kernels.cpu.layers.batch_norm import values as batch_norm
from fastmeta_kernels.cpu.layers.products import ADD, MATRIX, SIGNED, STEP, Into
from fastmeta_kernels.cpu.layers.winograd import convolution as winograd
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import OWN, SAMPLES, SERIAL, Code, G, P, R, S, U, at
from fastmeta_kernels.cpu.layout.network import (  # fmt: skip
    BIAS,
    DX,
    DY,
    FIRST,
    KIND,
    NARROW,
    OUTPUT_DELTAS,
    OUTPUTS,
    POOLED_NORM,
    RELU,
    STATS,
    TRANSPOSED,
    WEIGHT,
    WINOGRAD,
    Plan,
    X,
    Y,
)

PRODUCTS: dict[int, ModuleType] = {
    lt.LINEAR: linear,
    lt.CONVOLUTION: convolution,
    NARROW: narrow,
    WINOGRAD: winograd,
}
MATRICES = (lt.LINEAR, NARROW)  # they mask what they write and add up their biases themselves
ACTIVATIONS = (lt.RELU, lt.TANH, lt.SOFTPLUS)
PLAIN = {  # forward, tangent, backward: maps of (x, y), (x, y, x_dot, y_dot) and (x, y, dy, dx)
    lt.MAX_POOL: (op.MAX_FORWARD, op.MAX_SELECT, op.MAX_BACKWARD),
    lt.GLOBAL_MEAN_POOL: (op.MEAN_FORWARD, op.MEAN_FORWARD, op.MEAN_BACKWARD),
    lt.FLATTEN: (op.FLATTEN_FORWARD, op.FLATTEN_FORWARD, op.FLATTEN_BACKWARD),
}
NORMS = {  # forward, backward, and the tangents of both
    lt.BATCH_NORM: (
        (op.NORM_FORWARD,),
        (op.NORM_BACKWARD,),
        (op.NORM_FORWARD_TANGENT,),
        (op.NORM_BACKWARD_TANGENT,),
    ),
    POOLED_NORM: (
        (op.NORM_FORWARD, op.POOL_FORWARD),
        (op.POOL_SUMS, op.POOL_BACKWARD),
        (op.NORM_FORWARD_TANGENT, op.POOL_FORWARD_TANGENT),
        (op.POOL_SUMS_TANGENT, op.POOL_BACKWARD_TANGENT),
    ),
}


class Passes:
    """The passes through rows begin .. end of a plan; `features` is the register behind which row `begin` reads."""

    def __init__(self, code: Code, plan: Plan, begin: int = 0, end: int | None = None, features: int = S) -> None:
        self.code, self.plan, self.begin, self.features = code, plan, begin, features
        self.end = len(plan.rows) if end is None else end
        self.first = max(begin, int(plan.rows[0, FIRST]))  # neither dx nor x_dot there

    def forward(self) -> None:
        """Values of every position, outputs dense."""
        for l in range(self.begin, self.end):
            row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
            x, y, w, bias = self._x(l), at(S, row[Y]), at(P, row[WEIGHT]), self._bias(l, P)
            if kind in PRODUCTS:
                PRODUCTS[kind].forward(self.code, row, x, w, bias, y, bool(row[RELU]))
            elif kind in NORMS:
                self._norm(NORMS[kind][0], l, y)
            elif kind == lt.AFFINE:
                affine.emit(self.code, row, x, w, x, w, bias, y, second=False, back=False)
            else:
                self.code.add(op.ACTIVATE if kind in ACTIVATIONS else PLAIN[kind][0], SAMPLES, x, y, row=row)
        self._outputs(S)

    def transpose(self) -> None:
        """The transposed weights that `backward` reads, where it does not write them."""
        for row in self.plan.rows[self.first + 1 : self.end]:
            if row[KIND] in PRODUCTS:
                PRODUCTS[int(row[KIND])].transpose_weight(self.code, row, at(P, row[WEIGHT]), at(S, row[TRANSPOSED]))

    def backward(self, weights: int | None = 0, transpose: bool = True) -> None:
        """Deltas of every position behind the first row with parameters, and G = d L / d parameters, packed.

        weights: 0; ADDED, for G += sign * (...); None, for deltas only. A row's weight gradient comes before its dx,
        while dy is in the cache.
        """
        self._output_deltas(S)
        for l in range(self.end - 1, self.first - 1, -1):
            row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
            x, y, dx, dy = self._x(l), at(S, row[Y]), at(S, row[DX]), at(S, row[DY])
            w, t, need_dx = at(P, row[WEIGHT]), at(S, row[TRANSPOSED]), l > self.first
            self._mask_delta(l, dy)
            if weights is not None:
                self._weight_gradient(l, weights)
            if kind in PRODUCTS:
                if need_dx:
                    if transpose:
                        PRODUCTS[kind].transpose_weight(self.code, row, w, t)
                    PRODUCTS[kind].backward(self.code, row, dy, w if kind == NARROW else t, dx, **self._masked(l))
            elif kind in NORMS:
                self._norm(NORMS[kind][1], l, dx, need_dx)
                if weights is not None:
                    self._norm_gradient(l, S, weights)
            elif kind == lt.AFFINE:
                if need_dx:
                    affine.emit(self.code, row, dy, w, dy, w, 0, dx, second=False, back=True)
            elif kind in ACTIVATIONS:
                self.code.add(op.ACTIVATE_BACKWARD, SAMPLES, y, dy, dx, row=row)
            else:
                self.code.add(PLAIN[kind][2], SAMPLES, x, y, dy, dx, row=row)

    def forward_tangent(self) -> None:
        """y_dot of every position in the direction U of the parameters."""
        for l in range(self.first, self.end):
            row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
            x, x_dot, y, y_dot = self._x(l), at(R, row[X]), at(S, row[Y]), at(R, row[Y])
            w, u, bias, inner = at(P, row[WEIGHT]), at(U, row[WEIGHT]), self._bias(l, U), l > self.first
            if kind in PRODUCTS:
                mask = {"mask": at(S, row[Y])} if kind in MATRICES and row[RELU] else {}
                if inner:
                    PRODUCTS[kind].forward_tangent(self.code, row, x, x_dot, w, u, bias, y_dot, **mask)
                else:
                    PRODUCTS[kind].forward(self.code, row, x, u, bias, y_dot, **mask)
                if not mask:
                    self._mask(l, y_dot)
            elif kind in NORMS:
                self._norm(NORMS[kind][2], l, y_dot, inner)
            elif kind == lt.AFFINE:
                affine.emit(self.code, row, x, u, x_dot, w, bias, y_dot, second=inner, back=False)
            elif kind in ACTIVATIONS:
                self.code.add(op.ACTIVATE_TANGENT, SAMPLES, y, x_dot, y_dot, row=row)
            elif kind == lt.MAX_POOL:
                self.code.add(op.MAX_SELECT, SAMPLES, x, y, x_dot, y_dot, row=row)
            else:
                self.code.add(PLAIN[kind][1], SAMPLES, x_dot, y_dot, row=row)
        self._outputs(R)

    def backward_tangent(self, flags: int = 0) -> None:
        """Tangents of the deltas of every position in the direction U, and G = H U, packed.

        flags: ADDED, for G += sign * H U; with RATED, for linear layers, times the rate.
        """
        self._output_deltas(R)
        for l in range(self.end - 1, self.first - 1, -1):
            row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
            x, y, dy = self._x(l), at(S, row[Y]), at(S, row[DY])
            x_dot, dx_dot, dy_dot = at(R, row[X]), at(R, row[DX]), at(R, row[DY])
            w, u, inner = at(P, row[WEIGHT]), at(U, row[WEIGHT]), l > self.first
            self._mask_delta(l, dy_dot)
            if kind not in MATRICES:
                self._weight_gradient_tangent(l, flags)
            if kind in PRODUCTS:
                if inner:
                    self._product_tangent(l, dx_dot)
                if kind in MATRICES:  # where U is G: read before it moves
                    self._weight_gradient_tangent(l, flags)
            elif kind in NORMS:
                self._norm(NORMS[kind][3], l, dx_dot, inner)
                self._norm_gradient(l, R, flags)
            elif kind == lt.AFFINE:
                if inner:
                    affine.emit(self.code, row, dy, u, dy_dot, w, 0, dx_dot, second=True, back=True)
            elif kind in ACTIVATIONS:
                self.code.add(op.ACTIVATE_BACKWARD_TANGENT, SAMPLES, y, x_dot, dy, dy_dot, dx_dot, row=row)
            else:
                self.code.add(PLAIN[kind][2], SAMPLES, x, y, dy_dot, dx_dot, row=row)

    def features_tangent(self, to: int, add: bool) -> None:
        """to = sign * dx_dot (or +=) of row `begin`, a linear layer: what a direction of its weight does to dx."""
        row = self.plan.rows[self.begin]
        PRODUCTS[int(row[KIND])].transpose_weight(self.code, row, at(P, row[WEIGHT]), at(S, row[TRANSPOSED]))
        self._product_tangent(self.begin, to, SIGNED | (ADD if add else 0))

    def step(self, to: int) -> None:
        """Parameters behind `to` = P + sign * rate * d L / d parameters, after `backward`; of linear layers only."""
        for l in range(self.first, self.end):
            self._weight_gradient(l, STEP, to)

    def _weight_gradient(self, l: int, flags: int, to: int = G) -> None:
        """Row l's part of G, from the values and deltas of set S; a batch norm's comes from its statistics."""
        row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
        x, dy, w, bias = self._x(l), at(S, row[DY]), at(G, row[WEIGHT]), at(G, row[BIAS])
        if kind in MATRICES:
            PRODUCTS[kind].backward_weight(self.code, row, x, dy, self._into(l, flags, to))
        elif kind in PRODUCTS:
            PRODUCTS[kind].backward_weight(self.code, row, x, dy, w, bool(flags))
            if row[BIAS] >= 0:
                PRODUCTS[kind].backward_bias(self.code, row, dy, bias, bool(flags))
        elif kind == lt.AFFINE:
            affine.emit_gradient(self.code, row, x, dy, x, dy, w, bias, second=False, add=bool(flags))

    def _weight_gradient_tangent(self, l: int, flags: int) -> None:
        """Row l's part of H U: dw_dot = x_dot^T dy + x^T dy_dot."""
        row, kind, inner = self.plan.rows[l], int(self.plan.rows[l, KIND]), l > self.first
        x, x_dot, dy, dy_dot = self._x(l), at(R, row[X]), at(S, row[DY]), at(R, row[DY])
        w, bias = at(G, row[WEIGHT]), at(G, row[BIAS])
        if kind in PRODUCTS:
            into = (self._into(l, flags),) if kind in MATRICES else (w, bool(flags))
            if inner:
                PRODUCTS[kind].backward_weight_tangent(self.code, row, x, x_dot, dy, dy_dot, *into)
            else:
                PRODUCTS[kind].backward_weight(self.code, row, x, dy_dot, *into)
            if row[BIAS] >= 0 and kind not in MATRICES:
                PRODUCTS[kind].backward_bias(self.code, row, dy_dot, bias, bool(flags))
        elif kind == lt.AFFINE:
            affine.emit_gradient(self.code, row, x, dy_dot, x_dot, dy, w, bias, second=inner, add=bool(flags))

    def _norm_gradient(self, l: int, register: int, flags: int) -> None:
        """The same of a batch norm, which left it with the statistics of set S or R."""
        row = self.plan.rows[l]
        operands = at(register, row[STATS]), at(G, row[WEIGHT]), at(G, row[BIAS]), bool(flags)
        self.code.add(op.NORM_GRADIENT, SERIAL, *operands, row=row)

    def _product_tangent(self, l: int, dx_dot: int, *flags: int) -> None:
        """dx_dot of a product; only a linear layer takes flags."""
        row, kind = self.plan.rows[l], int(self.plan.rows[l, KIND])
        pair = at(P, row[WEIGHT]), at(U, row[WEIGHT])
        if kind != NARROW:
            PRODUCTS[kind].transpose_weight(self.code, row, pair[1], at(R, row[TRANSPOSED]))
            pair = at(S, row[TRANSPOSED]), at(R, row[TRANSPOSED])
        deltas = at(S, row[DY]), at(R, row[DY])
        PRODUCTS[kind].backward_tangent(self.code, row, *deltas, *pair, dx_dot, *flags, **self._masked(l))

    def _into(self, l: int, flags: int, to: int = G) -> Into:
        """Where the gradient of row l goes; what STEP starts from lies behind P."""
        weight, bias = (int(n) for n in self.plan.rows[l, [WEIGHT, BIAS]])
        base = at(P, weight) if flags & MATRIX else 0
        return Into(at(to, weight), at(to, bias) if bias >= 0 else 0, flags, base)

    def _x(self, l: int) -> int:
        return at(self.features if l == self.begin else S, self.plan.rows[l, X])

    def _bias(self, l: int, register: int) -> int:
        offset = self.plan.rows[l, BIAS]
        return at(register, offset) if offset >= 0 else 0  # zeros lie at the start of a workspace

    def _norm(self, instructions: tuple[int, ...], l: int, out: int, inner: bool = False) -> None:
        """Instructions of a batch norm, which all have the same operands; what makes dx only where it is `inner`."""
        row, norm = self.plan.rows[l], batch_norm
        flags = norm.RECTIFIED * row[RELU] + norm.INNER * inner + norm.POOLED * (row[KIND] == POOLED_NORM)
        values = self._x(l), at(R, row[X]), at(S, row[DY]), at(R, row[DY])
        parameters = at(P, row[WEIGHT]), at(P, row[BIAS]), at(U, row[WEIGHT]), at(U, row[BIAS])
        for instruction in instructions:
            if inner or instruction not in (op.POOL_BACKWARD, op.POOL_BACKWARD_TANGENT):
                operands = *values, *parameters, out, at(S, row[STATS]), at(R, row[STATS]), flags
                self.code.add(instruction, OWN, *operands, row=row)

    def _mask(self, l: int, value: int) -> None:
        """The derivative of the ReLU that row l took over."""
        row = self.plan.rows[l]
        if row[RELU] and row[KIND] not in NORMS:
            self.code.add(op.MASK, SAMPLES, at(S, row[Y]), value, row=row)

    def _mask_delta(self, l: int, delta: int) -> None:
        """The same for a delta or its tangent, where the row behind has not done it."""
        if l + 1 == self.end or self.plan.rows[l + 1, KIND] not in MATRICES:
            self._mask(l, delta)

    def _masked(self, l: int) -> dict[str, int]:
        """How a linear layer masks what it passes back: by its input, where a ReLU made that."""
        before = self.plan.rows[l - 1]
        fused = self.plan.rows[l, KIND] in MATRICES and l > self.begin and before[RELU] and before[KIND] not in NORMS
        return {"mask": self._x(l)} if fused else {}

    def _outputs(self, register: int) -> None:
        row = self.plan.rows[-1]
        if self.end == len(self.plan.rows) and row[OUTPUTS] != row[Y]:
            self.code.add(op.MOVE, SERIAL, at(register, row[Y]), at(register, row[OUTPUTS]), 1, row=row)

    def _output_deltas(self, register: int) -> None:
        row = self.plan.rows[-1]
        if self.end == len(self.plan.rows) and row[OUTPUT_DELTAS] != row[DY]:
            self.code.add(op.MOVE, SERIAL, at(register, row[DY]), at(register, row[OUTPUT_DELTAS]), 0, row=row)
