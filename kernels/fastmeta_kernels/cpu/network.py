"""The interpreter over a plan: forward, backward, both tangents and the weight gradients of a whole network.

`p` is the offset of packed parameters, `s` of a set, `u` of a packed direction, `r` of the tangent set. A set holds
values and deltas of every position; the tangent set holds theirs at the same places.
"""

from __future__ import annotations

from fastmeta_kernels.cpu import activation, batch_norm, convolution, linear, losses, pooling
from fastmeta_kernels.cpu._jit import kernel, linked
from fastmeta_kernels.cpu.plan import (
    BIAS,
    CP,
    DX,
    DY,
    FIRST,
    KIND,
    OC,
    OCP,
    OH,
    OUTPUT_DELTAS,
    OUTPUTS,
    OW,
    PROBABILITIES,
    RELU,
    STATS,
    TRANSPOSED,
    WEIGHT,
    X_N,
    X_R,
    Y_N,
    Y_R,
    C,
    H,
    O,
    W,
    X,
    Y,
)  # fmt: skip
from fastmeta_kernels.layer_table import (
    BATCH_NORM,
    CONVOLUTION,
    GLOBAL_MEAN_POOL,
    LINEAR,
    MAX_POOL,
    SOFTPLUS,
    TANH,
)  # fmt: skip
from fastmeta_kernels.layer_table import (
    RELU as RELU_KIND,
)


@kernel
def read_input(ws, plan, n, x, s):
    """Copy samples x (N * H * W * C,) into the first position of set s."""
    cp, c = plan[0, CP], plan[0, C]
    source = 0
    for i in range(n):
        for r in range(plan[0, H]):
            at = s + plan[0, X] + i * plan[0, X_N] + r * plan[0, X_R]
            for q in range(at, at + plan[0, W] * cp, cp):
                for j in range(c):
                    ws[q + j] = x[source]
                    source += 1


@kernel
def move_outputs(ws, plan, n, position, dense, to_dense):
    """Between the last position (padded) and dense outputs (N, O)."""
    l = plan.shape[0] - 1
    for i in range(n):
        for r in range(plan[l, OH]):
            for q in range(plan[l, OW]):
                at = position + i * plan[l, Y_N] + r * plan[l, Y_R] + q * plan[l, OCP]
                c = plan[l, OC]
                for j in range(c):
                    if to_dense:
                        ws[dense + j] = ws[at + j]
                    else:
                        ws[at + j] = ws[dense + j]
                dense += c


@linked
def forward(ws, plan, n, p, s):
    """Values of every position, outputs dense."""
    for l in range(plan.shape[0]):
        kind, x, y = plan[l, KIND], s + plan[l, X], s + plan[l, Y]
        bias = p + plan[l, BIAS] if plan[l, BIAS] >= 0 else 0
        if kind == LINEAR:
            linear.forward(ws, plan, l, n, x, p + plan[l, WEIGHT], bias, y, False, plan[l, RELU] != 0)
        elif kind == CONVOLUTION:
            convolution.forward(ws, plan, l, n, x, p + plan[l, WEIGHT], bias, y, False, plan[l, RELU] != 0)
        elif kind == BATCH_NORM:
            batch_norm.forward(ws, plan, l, n, x, p + plan[l, WEIGHT], bias, y, s + plan[l, STATS])
            if plan[l, RELU]:
                activation.mask_relu(ws, plan, l, n, y, y)
        elif kind == RELU_KIND or kind == TANH or kind == SOFTPLUS:
            activation.forward(ws, plan, l, n, x, y)
        elif kind == MAX_POOL:
            pooling.max_forward(ws, plan, l, n, x, y)
        elif kind == GLOBAL_MEAN_POOL:
            pooling.mean_forward(ws, plan, l, n, x, y)
        else:
            pooling.flatten_forward(ws, plan, l, n, x, y)
    move_outputs(ws, plan, n, s + plan[plan.shape[0] - 1, Y], s + plan[0, OUTPUTS], True)


@kernel
def loss(ws, plan, n, s, kind, y, labels, weights):
    """Loss of a set after `forward`, and the deltas of its outputs."""
    if kind == losses.CROSS_ENTROPY:
        return losses.cross_entropy(
            ws,
            n,
            plan[0, O],
            s + plan[0, OUTPUTS],
            labels,
            weights,
            s + plan[0, OUTPUT_DELTAS],
            s + plan[0, PROBABILITIES],
        )
    if kind == losses.LINEAR:
        return losses.linear(ws, n, plan[0, O], s + plan[0, OUTPUTS], y, s + plan[0, OUTPUT_DELTAS])
    return losses.squared_error(ws, n, plan[0, O], s + plan[0, OUTPUTS], y, weights, s + plan[0, OUTPUT_DELTAS])


@linked
def backward(ws, plan, n, p, s):
    """Deltas of every position behind the first row with parameters; transposed weights and statistics into the set."""
    last = plan.shape[0] - 1
    move_outputs(ws, plan, n, s + plan[last, DY], s + plan[0, OUTPUT_DELTAS], False)
    first = plan[0, FIRST]
    for l in range(last, first - 1, -1):
        kind, x, y = plan[l, KIND], s + plan[l, X], s + plan[l, Y]
        dx, dy, t = s + plan[l, DX], s + plan[l, DY], s + plan[l, TRANSPOSED]
        if plan[l, RELU]:
            activation.mask_relu(ws, plan, l, n, y, dy)
        if kind == LINEAR:
            if l > first:
                linear.transpose_weight(ws, plan, l, p + plan[l, WEIGHT], t)
                linear.backward(ws, plan, l, n, dy, t, dx, False)
        elif kind == CONVOLUTION:
            if l > first:
                convolution.transpose_weight(ws, plan, l, p + plan[l, WEIGHT], t)
                convolution.backward(ws, plan, l, n, dy, t, dx, False)
        elif kind == BATCH_NORM:
            batch_norm.backward(ws, plan, l, n, x, dy, p + plan[l, WEIGHT], dx, s + plan[l, STATS], l > first)
        elif kind == RELU_KIND or kind == TANH or kind == SOFTPLUS:
            activation.backward(ws, plan, l, n, y, dy, dx)
        elif kind == MAX_POOL:
            pooling.max_backward(ws, plan, l, n, x, y, dy, dx)
        elif kind == GLOBAL_MEAN_POOL:
            pooling.mean_backward(ws, plan, l, n, dy, dx)
        else:
            pooling.flatten_backward(ws, plan, l, n, dy, dx)


@linked
def forward_tangent(ws, plan, n, p, s, u, r):
    """y_dot of every position in the direction u of the parameters."""
    first = plan[0, FIRST]
    for l in range(first, plan.shape[0]):
        kind, x, y = plan[l, KIND], s + plan[l, X], s + plan[l, Y]
        x_dot, y_dot = r + plan[l, X], r + plan[l, Y]
        bias = u + plan[l, BIAS] if plan[l, BIAS] >= 0 else 0
        if kind == LINEAR:
            linear.forward(ws, plan, l, n, x, u + plan[l, WEIGHT], bias, y_dot, False, False)
            if l > first:
                linear.forward(ws, plan, l, n, x_dot, p + plan[l, WEIGHT], 0, y_dot, True, False)
        elif kind == CONVOLUTION:
            convolution.forward(ws, plan, l, n, x, u + plan[l, WEIGHT], bias, y_dot, False, False)
            if l > first:
                convolution.forward(ws, plan, l, n, x_dot, p + plan[l, WEIGHT], 0, y_dot, True, False)
        elif kind == BATCH_NORM:
            batch_norm.forward_tangent(
                ws, plan, l, n, x, x_dot, p + plan[l, WEIGHT], u + plan[l, WEIGHT], bias, y_dot,
                s + plan[l, STATS], r + plan[l, STATS], l > first,
            )  # fmt: skip
        elif kind == RELU_KIND or kind == TANH or kind == SOFTPLUS:
            activation.forward_tangent(ws, plan, l, n, y, x_dot, y_dot)
        elif kind == MAX_POOL:
            pooling.max_select(ws, plan, l, n, x, y, x_dot, y_dot)
        elif kind == GLOBAL_MEAN_POOL:
            pooling.mean_forward(ws, plan, l, n, x_dot, y_dot)
        else:
            pooling.flatten_forward(ws, plan, l, n, x_dot, y_dot)
        if plan[l, RELU]:
            activation.mask_relu(ws, plan, l, n, y, y_dot)
    move_outputs(ws, plan, n, r + plan[plan.shape[0] - 1, Y], r + plan[0, OUTPUTS], True)


@kernel
def loss_tangent(ws, plan, n, s, r, kind, weights):
    """Tangents of the deltas of the outputs, after `forward_tangent`."""
    z_dot, dz_dot = r + plan[0, OUTPUTS], r + plan[0, OUTPUT_DELTAS]
    if kind == losses.CROSS_ENTROPY:
        losses.cross_entropy_tangent(ws, n, plan[0, O], z_dot, weights, dz_dot, s + plan[0, PROBABILITIES])
    else:
        losses.squared_error_tangent(ws, n, plan[0, O], z_dot, weights, dz_dot)


@linked
def backward_tangent(ws, plan, n, p, s, u, r):
    """Tangents of the deltas of every position in the direction u; transposes of u into the tangent set."""
    last = plan.shape[0] - 1
    move_outputs(ws, plan, n, r + plan[last, DY], r + plan[0, OUTPUT_DELTAS], False)
    first = plan[0, FIRST]
    for l in range(last, first - 1, -1):
        kind, x, y = plan[l, KIND], s + plan[l, X], s + plan[l, Y]
        dy, t = s + plan[l, DY], s + plan[l, TRANSPOSED]
        x_dot, dx_dot, dy_dot, t_dot = (
            r + plan[l, X],
            r + plan[l, DX],
            r + plan[l, DY],
            r + plan[l, TRANSPOSED],
        )
        if plan[l, RELU]:
            activation.mask_relu(ws, plan, l, n, y, dy_dot)
        if kind == LINEAR:
            if l > first:
                linear.transpose_weight(ws, plan, l, u + plan[l, WEIGHT], t_dot)
                linear.backward(ws, plan, l, n, dy, t_dot, dx_dot, False)
                linear.backward(ws, plan, l, n, dy_dot, t, dx_dot, True)
        elif kind == CONVOLUTION:
            if l > first:
                convolution.transpose_weight(ws, plan, l, u + plan[l, WEIGHT], t_dot)
                convolution.backward(ws, plan, l, n, dy, t_dot, dx_dot, False)
                convolution.backward(ws, plan, l, n, dy_dot, t, dx_dot, True)
        elif kind == BATCH_NORM:
            batch_norm.backward_tangent(
                ws, plan, l, n, x, x_dot, dy, dy_dot, p + plan[l, WEIGHT], u + plan[l, WEIGHT], dx_dot,
                s + plan[l, STATS], r + plan[l, STATS], l > first,
            )  # fmt: skip
        elif kind == RELU_KIND or kind == TANH or kind == SOFTPLUS:
            activation.backward_tangent(ws, plan, l, n, y, x_dot, dy, dy_dot, dx_dot)
        elif kind == MAX_POOL:
            pooling.max_backward(ws, plan, l, n, x, y, dy_dot, dx_dot)
        elif kind == GLOBAL_MEAN_POOL:
            pooling.mean_backward(ws, plan, l, n, dy_dot, dx_dot)
        else:
            pooling.flatten_backward(ws, plan, l, n, dy_dot, dx_dot)


@kernel
def products(ws, plan, l, n, x, dy, stats, out, alpha, accumulate):
    """One row's part of the weight gradient, but for the bias of a linear or convolution layer."""
    kind, w = plan[l, KIND], out + plan[l, WEIGHT]
    if kind == LINEAR:
        linear.backward_weight(ws, plan, l, n, x, dy, w, alpha, accumulate)
    elif kind == CONVOLUTION:
        convolution.backward_weight(ws, plan, l, n, x, dy, w, alpha, accumulate)
    elif kind == BATCH_NORM:
        ocp, b = plan[l, OCP], out + plan[l, BIAS]
        for j in range(ocp):
            ws[w + j] = alpha * ws[stats + 2 * ocp + j] + (ws[w + j] if accumulate else 0.0)
            ws[b + j] = alpha * ws[stats + 3 * ocp + j] + (ws[b + j] if accumulate else 0.0)


@linked
def weight_gradient(ws, plan, n, s, out):
    """out = d L / d parameters, packed, from the values and deltas of set s."""
    for l in range(plan[0, FIRST], plan.shape[0]):
        kind, x, dy, stats = plan[l, KIND], s + plan[l, X], s + plan[l, DY], s + plan[l, STATS]
        products(ws, plan, l, n, x, dy, stats, out, 1, False)
        if (kind == LINEAR or kind == CONVOLUTION) and plan[l, BIAS] >= 0:
            linear.backward_bias(ws, plan, l, n, dy, out + plan[l, BIAS], 1, False)


@linked
def weight_gradient_tangent(ws, plan, n, s, r, out, sign):
    """out += sign * H u, packed, after both tangents: dw_dot = x_dot^T dy + x^T dy_dot."""
    first = plan[0, FIRST]
    for l in range(first, plan.shape[0]):
        kind = plan[l, KIND]
        products(ws, plan, l, n, s + plan[l, X], r + plan[l, DY], r + plan[l, STATS], out, sign, True)
        if kind == LINEAR or kind == CONVOLUTION:
            if l > first:
                products(ws, plan, l, n, r + plan[l, X], s + plan[l, DY], 0, out, sign, True)
            if plan[l, BIAS] >= 0:
                linear.backward_bias(ws, plan, l, n, r + plan[l, DY], out + plan[l, BIAS], sign, True)
