"""Categorical policies: logits z (N, O), p = softmax(z), of labels y or of old logits.

l = log p_y has g = d l / d z = e_y - p.
"""

from __future__ import annotations

import numpy as np

from fastmeta_kernels.cpu.losses.surrogates import LOG, psi, psi_slope
from fastmeta_kernels.cpu.machine.jit import kernel


@kernel
def log_mass(values, at, o):
    """The largest of o logits, and log sum exp of what they lie below it: log p = (z - the first) - the second."""
    top = values[at]
    for j in range(at + 1, at + o):
        top = max(top, values[j])
    mass = values.dtype.type(0.0)
    for j in range(at, at + o):
        mass += np.exp(values[j] - top)
    return top, np.log(mass)


@kernel
def loss(ws, n, o, z, y, logs, weights, dz, surrogate, clip):
    """L = 1 / N sum_n w_n psi(l_n), dz = w psi' (e_y - p) / N; labels y (N,)."""
    found, share = 0.0, 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        row, to = z + i * o, dz + i * o
        top, mass = log_mass(ws, row, o)
        l = (ws[row + y[i]] - top) - mass
        rho = np.exp(l - logs[i]) if surrogate != LOG else 1.0
        found += w * psi(surrogate, clip, l, rho, w)
        slope = w * psi_slope(surrogate, clip, rho, w)
        for j in range(o):
            ws[to + j] = slope * ((1.0 if j == y[i] else 0.0) - np.exp((ws[row + j] - top) - mass))
    return found


@kernel
def loss_tangent(ws, n, o, z, z_dot, y, logs, weights, dz, dz_dot, surrogate, clip):
    """dz_dot = psi'' / psi' (g . z_dot) dz - w psi' p (z_dot - p . z_dot) / N."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        row, dot = z + i * o, z_dot + i * o
        top, mass = log_mass(ws, row, o)
        mean = _to_metric(ws, o, row, dot, dz_dot + i * o, top, mass)
        l = (ws[row + y[i]] - top) - mass
        rho = np.exp(l - logs[i]) if surrogate != LOG else 1.0
        slope = w * psi_slope(surrogate, clip, rho, w)
        bend = ws[dot + y[i]] - mean if surrogate != LOG else 0.0
        for j in range(i * o, i * o + o):
            ws[dz_dot + j] = bend * ws[dz + j] - slope * ws[dz_dot + j]


@kernel
def divergence(ws, n, o, z, y, weights, dz):
    """KL(old || new) = sum_o p0 (log p0 - log p), old logits y (N * O,); its mean and dz = w (p - p0) / N."""
    found, share = 0.0, 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        top, mass = log_mass(ws, z + i * o, o)
        top0, mass0 = log_mass(y, i * o, o)
        for j in range(i * o, i * o + o):
            l, l0 = (ws[z + j] - top) - mass, (y[j] - top0) - mass0
            p0 = np.exp(l0)
            found += w * p0 * (l0 - l)
            ws[dz + j] = w * (np.exp(l) - p0)
    return found


@kernel
def metric(ws, n, o, z, z_dot, weights, dz):
    """dz = w (p z_dot - p (p . z_dot)) / N: the Hessian of the KL, whatever the old logits were."""
    share = 1.0 / n
    for i in range(n):
        w = weights[i] * share if weights.size > 0 else share
        row = z + i * o
        top, mass = log_mass(ws, row, o)
        _to_metric(ws, o, row, z_dot + i * o, dz + i * o, top, mass)
        for j in range(i * o, i * o + o):
            ws[dz + j] *= w


@kernel
def _to_metric(ws, o, z, z_dot, to, top, mass):
    """p (z_dot - p . z_dot) of one sample, and p . z_dot."""
    mean = ws.dtype.type(0.0)
    for j in range(o):
        p = np.exp((ws[z + j] - top) - mass)
        ws[to + j] = p
        mean += p * ws[z_dot + j]
    for j in range(o):
        ws[to + j] *= ws[z_dot + j] - mean
    return mean
