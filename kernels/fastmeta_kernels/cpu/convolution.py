"""y = x * W over bordered images in a workspace: no patches are copied, the product strides over the image itself.

For output row y and tap row ky, the K x CP input values under a pixel are contiguous, so one product with K1 = kernel
rows and K = kernel * CP makes a row of outputs. Tile rows are the pixels of an image row or, where images are
small, the samples. The adjoint of stride s is s * s plain convolutions, one a residue class of input pixels.
"""

from __future__ import annotations

from fastmeta_kernels.cpu._jit import kernel
from fastmeta_kernels.cpu.plan import CP, KERNEL, OCP, OH, OW, PADDING, STRIDE, X_N, X_R, Y_N, Y_R, H, W
from fastmeta_kernels.cpu.product import product
from fastmeta_kernels.cpu.vector import VECTOR_BYTES, transpose


@kernel
def forward(ws, plan, l, n, x, w, bias, y, accumulate, relu):
    """y = x * W + bias, or y += x * W. `bias` is an offset; 0, where zeros lie, for none."""
    k, s, cp, ocp = plan[l, KERNEL], plan[l, STRIDE], plan[l, CP], plan[l, OCP]
    xr, xn, yr, yn = plan[l, X_R], plan[l, X_N], plan[l, Y_R], plan[l, Y_N]
    x0 = x - plan[l, PADDING] * (xr + cp)
    if plan[l, OW] >= n:
        for i in range(n):
            for oy in range(plan[l, OH]):
                a, c = x0 + i * xn + oy * s * xr, y + i * yn + oy * yr
                d, ldd = (c, ocp) if accumulate else (bias, 0)
                product(
                    ws,
                    plan[l, OW],
                    ocp,
                    k,
                    k * cp,
                    a,
                    s * cp,
                    1,
                    xr,
                    w,
                    ocp,
                    k * cp * ocp,
                    c,
                    ocp,
                    d,
                    ldd,
                    1.0,
                    relu,
                )
    else:
        for oy in range(plan[l, OH]):
            for ox in range(plan[l, OW]):
                a, c = x0 + oy * s * xr + ox * s * cp, y + oy * yr + ox * ocp
                d, ldd = (c, yn) if accumulate else (bias, 0)
                product(ws, n, ocp, k, k * cp, a, xn, 1, xr, w, ocp, k * cp * ocp, c, yn, d, ldd, 1.0, relu)


@kernel
def transpose_weight(ws, plan, l, w, t):
    """Taps of each residue class (ky0, kx0) in falling order, each (CP, OCP) block transposed."""
    width = VECTOR_BYTES // ws.itemsize
    k, s, cp, ocp = plan[l, KERNEL], plan[l, STRIDE], plan[l, CP], plan[l, OCP]
    for ky0 in range(min(s, k)):
        for kx0 in range(min(s, k)):
            for ky in range(ky0 + (k - 1 - ky0) // s * s, -1, -s):
                for kx in range(kx0 + (k - 1 - kx0) // s * s, -1, -s):
                    block = w + (ky * k + kx) * cp * ocp
                    for i in range(0, cp, width):
                        for o in range(0, ocp, width):
                            transpose(ws, block + i * ocp + o, ocp, t + o * cp + i, cp)
                    t += cp * ocp


@kernel
def backward(ws, plan, l, n, dy, t, dx, accumulate):
    """dx[q] = sum of dy[(q + p - k) / s] W[k]^T over the taps k that divide (or +=), t from transpose_weight."""
    k, s, p, cp, ocp = plan[l, KERNEL], plan[l, STRIDE], plan[l, PADDING], plan[l, CP], plan[l, OCP]
    xr, xn, yr, yn = plan[l, X_R], plan[l, X_N], plan[l, Y_R], plan[l, Y_N]
    for ky0 in range(s):
        taps_y = (k - ky0 + s - 1) // s if ky0 < k else 0
        for kx0 in range(s):
            taps_x = (k - kx0 + s - 1) // s if kx0 < k else 0
            depth = taps_x * ocp
            ix0 = (kx0 - p) % s
            pixels = (plan[l, W] - ix0 + s - 1) // s
            ox = (ix0 + p - kx0) // s - max(taps_x - 1, 0)
            for iy in range((ky0 - p) % s, plan[l, H], s):
                oy = (iy + p - ky0) // s - max(taps_y - 1, 0)
                a0, c0 = dy + oy * yr + ox * ocp, dx + iy * xr + ix0 * cp
                if pixels >= n:
                    for i in range(n):
                        a, c = a0 + i * yn, c0 + i * xn
                        d, ldd = (c, s * cp) if accumulate else (0, 0)
                        product(
                            ws,
                            pixels,
                            cp,
                            taps_y,
                            depth,
                            a,
                            ocp,
                            1,
                            yr,
                            t,
                            cp,
                            depth * cp,
                            c,
                            s * cp,
                            d,
                            ldd,
                            1.0,
                            False,
                        )
                else:
                    for i in range(pixels):
                        a, c = a0 + i * ocp, c0 + i * s * cp
                        d, ldd = (c, xn) if accumulate else (0, 0)
                        product(
                            ws,
                            n,
                            cp,
                            taps_y,
                            depth,
                            a,
                            yn,
                            1,
                            yr,
                            t,
                            cp,
                            depth * cp,
                            c,
                            xn,
                            d,
                            ldd,
                            1.0,
                            False,
                        )
            t += taps_y * depth * cp


@kernel
def backward_weight(ws, plan, l, n, x, dy, out, alpha, accumulate):
    """out[ky, kx, c, o] = alpha * sum of x[s y + ky - p, s x + kx - p, c] dy[y, x, o] (or +=)."""
    k, s, cp, ocp = plan[l, KERNEL], plan[l, STRIDE], plan[l, CP], plan[l, OCP]
    xr, xn, yr, yn = plan[l, X_R], plan[l, X_N], plan[l, Y_R], plan[l, Y_N]
    x0 = x - plan[l, PADDING] * (xr + cp)
    by_sample = n > plan[l, OH]
    for ky in range(k):
        c = out + ky * k * cp * ocp
        for i in range(plan[l, OH] if by_sample else n):
            d, ldd = (c, ocp) if accumulate or i > 0 else (0, 0)
            if by_sample:
                a, b, K1, a1, b1 = x0 + (i * s + ky) * xr, dy + i * yr, n, xn, yn
            else:
                a, b, K1, a1, b1 = x0 + i * xn + ky * xr, dy + i * yn, plan[l, OH], s * xr, yr
            product(ws, k * cp, ocp, K1, plan[l, OW], a, 1, s * cp, a1, b, ocp, b1, c, ocp, d, ldd, alpha, False)
