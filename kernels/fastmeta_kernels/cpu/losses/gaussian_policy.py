"""Gaussian policies: outputs (mu, s) (N, 2 A) of actions or of old outputs y, e = (y - mu) exp(-s).

l = sum_a -s - e^2 / 2 - log(2 pi) / 2 has g = d l / d z = (e exp(-s), e^2 - 1).
"""

from __future__ import annotations

import math

import numpy as np

from fastmeta_kernels.cpu.losses.surrogates import LOG, psi, psi_slope
from fastmeta_kernels.cpu.machine.jit import kernel

HALF_LOG_2_PI = math.log(2 * math.pi) / 2


@kernel
def loss(ws, n, a, z, y, logs, weights, dz, surrogate, clip):
    """L = 1 / N sum_n w_n psi(l_n), dz = w psi' g / N; actions y (N * A,)."""
    found, share = 0.0, 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        mu, to = z + 2 * i * a, dz + 2 * i * a
        l = -HALF_LOG_2_PI * a
        for j in range(a):
            s = ws[mu + a + j]
            inverse = np.exp(-s)
            e = (y[i * a + j] - ws[mu + j]) * inverse
            l -= s + 0.5 * e * e
            ws[to + j] = e * inverse
            ws[to + a + j] = e * e - 1
        rho = np.exp(l - logs[i]) if surrogate != LOG else 1.0
        found += w * psi(surrogate, clip, l, rho, w)
        slope = w * psi_slope(surrogate, clip, rho, w)
        for j in range(to, to + 2 * a):
            ws[j] *= slope
    return found


@kernel
def loss_tangent(ws, n, a, z, z_dot, y, logs, weights, dz, dz_dot, surrogate, clip):
    """dz_dot = psi'' / psi' (g . z_dot) dz + w psi' g_dot / N."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        mu, dot = z + 2 * i * a, z_dot + 2 * i * a
        to = dz_dot + 2 * i * a
        l, along = -HALF_LOG_2_PI * a, 0.0
        for j in range(a):
            s, s_dot = ws[mu + a + j], ws[dot + a + j]
            inverse = np.exp(-s)
            e = (y[i * a + j] - ws[mu + j]) * inverse
            e_dot = -inverse * ws[dot + j] - e * s_dot
            l -= s + 0.5 * e * e
            along += e * inverse * ws[dot + j] + (e * e - 1) * s_dot
            ws[to + j] = inverse * (e_dot - e * s_dot)
            ws[to + a + j] = 2 * e * e_dot
        rho = np.exp(l - logs[i]) if surrogate != LOG else 1.0
        slope = w * psi_slope(surrogate, clip, rho, w)
        bend = along if surrogate != LOG else 0.0
        for j in range(2 * a):
            ws[to + j] = bend * ws[dz + 2 * i * a + j] + slope * ws[to + j]


@kernel
def divergence(ws, n, a, z, y, weights, dz):
    """KL(old || new) = sum_a s - s0 + (exp(2 s0 - 2 s) + e^2 - 1) / 2, old outputs y = (mu0, s0); its mean and dz."""
    found, share = 0.0, 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        mu, to = z + 2 * i * a, dz + 2 * i * a
        for j in range(a):
            s, s0 = ws[mu + a + j], y[2 * i * a + a + j]
            inverse, spread = np.exp(-s), np.exp(2 * (s0 - s))
            e = (ws[mu + j] - y[2 * i * a + j]) * inverse
            found += w * (s - s0 + 0.5 * (spread + e * e - 1))
            ws[to + j] = w * e * inverse
            ws[to + a + j] = w * (1 - spread - e * e)
    return found


@kernel
def divergence_tangent(ws, n, a, z, z_dot, y, weights, dz_dot):
    """dz_dot = w H z_dot / N, H the KL's Hessian by z."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        mu, dot = z + 2 * i * a, z_dot + 2 * i * a
        to = dz_dot + 2 * i * a
        for j in range(a):
            s = ws[mu + a + j]
            mu_dot, s_dot = ws[dot + j], ws[dot + a + j]
            inverse, spread = np.exp(-s), np.exp(2 * (y[2 * i * a + a + j] - s))
            e = (ws[mu + j] - y[2 * i * a + j]) * inverse
            ws[to + j] = w * inverse * (inverse * mu_dot - 2 * e * s_dot)
            ws[to + a + j] = 2 * w * ((spread + e * e) * s_dot - e * inverse * mu_dot)


@kernel
def metric(ws, n, a, z, z_dot, weights, dz):
    """dz = w M z_dot / N, M = diag(exp(-2 s), 2) the Hessian of the KL at its own outputs."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        for j in range(2 * i * a, 2 * i * a + a):
            inverse = np.exp(-ws[z + a + j])
            ws[dz + j] = w * inverse * inverse * ws[z_dot + j]
            ws[dz + a + j] = 2 * w * ws[z_dot + a + j]
