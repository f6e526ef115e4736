"""y = x W + b in a workspace. An image is flattened as it lies: W is (H, W, CP, OCP), one product with K1 = H.

Every operand is an offset; `plan[l]` gives shapes and strides. A call with accumulate adds to what is there.
"""

from __future__ import annotations

from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.plan import CP, OC, OCP, OH, OW, X_N, X_R, Y_N, Y_R, C, H, W
from fastmeta_kernels.cpu.product import product
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, load, splat, store, transpose


@kernel
def _depth(plan, l):
    """Scalars of one image row that carry data: without padding where it can be left out."""
    return plan[l, C] if plan[l, H] * plan[l, W] == 1 else plan[l, W] * plan[l, CP]


@kernel
def forward(ws, plan, l, n, x, w, bias, y, accumulate, relu):
    """y = x W + bias, or y += x W. `bias` is an offset; 0, where zeros lie, for none."""
    ocp, yn = plan[l, OCP], plan[l, Y_N]
    d, ldd = (y, yn) if accumulate else (bias, 0)
    block = plan[l, W] * plan[l, CP] * ocp
    product(
        ws,
        n,
        ocp,
        plan[l, H],
        _depth(plan, l),
        x,
        plan[l, X_N],
        1,
        plan[l, X_R],
        w,
        ocp,
        block,
        y,
        yn,
        d,
        ldd,
        1.0,
        relu,
    )


@kernel
def transpose_weight(ws, plan, l, w, t):
    """t[h, o, (w c)] = W[h, (w c), o]."""
    width = VECTOR_BYTES // ws.itemsize
    m, ocp = plan[l, W] * plan[l, CP], plan[l, OCP]
    for h in range(plan[l, H]):
        block = h * m * ocp
        for i in range(0, m, width):
            for o in range(0, ocp, width):
                transpose(ws, w + block + i * ocp + o, ocp, t + block + o * m + i, m)


@kernel
def backward(ws, plan, l, n, dy, t, dx, accumulate):
    """dx = dy W^T (or +=), with t the transposed weight."""
    m, ocp = plan[l, W] * plan[l, CP], plan[l, OCP]
    for h in range(plan[l, H]):
        c = dx + h * plan[l, X_R]
        d, ldd = (c, plan[l, X_N]) if accumulate else (0, 0)
        product(
            ws,
            n,
            m,
            1,
            plan[l, OC],
            dy,
            plan[l, Y_N],
            1,
            0,
            t + h * m * ocp,
            m,
            0,
            c,
            plan[l, X_N],
            d,
            ldd,
            1.0,
            False,
        )


@kernel
def backward_weight(ws, plan, l, n, x, dy, out, alpha, accumulate):
    """out = alpha * x^T dy (or +=)."""
    ocp = plan[l, OCP]
    block = plan[l, W] * plan[l, CP] * ocp
    xn, yn = plan[l, X_N], plan[l, Y_N]
    for h in range(plan[l, H]):
        a, c = x + h * plan[l, X_R], out + h * block
        d, ldd = (c, ocp) if accumulate else (0, 0)
        product(ws, _depth(plan, l), ocp, 1, n, a, 1, xn, 0, dy, yn, 0, c, ocp, d, ldd, alpha, False)


@kernel
def backward_bias(ws, plan, l, n, dy, out, alpha, accumulate):
    """out = alpha * sum over samples and pixels of dy (or +=), for a convolution too."""
    width = VECTOR_BYTES // ws.itemsize
    scale = splat(ws.dtype.type(alpha))
    ocp = plan[l, OCP]
    for j in range(0, ocp, width):
        s = splat(ws.dtype.type(0.0))
        for i in range(n):
            for y in range(plan[l, OH]):
                row = dy + i * plan[l, Y_N] + y * plan[l, Y_R] + j
                for x in range(plan[l, OW]):
                    s = s + load(ws, row + x * ocp)
        s = s * scale
        if accumulate:
            s = s + load(ws, out + j)
        store(ws, out + j, s)
