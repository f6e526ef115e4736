"""NumPy, written out by hand for this one network."""

import sys

import numpy as np

_, folder, out = sys.argv[1:]
with np.load(f"{folder}/weights.npz") as file:
    p = [file[f"linear{i}_{name}"] for i in (1, 2, 3) for name in ("weight", "bias")]
with np.load(f"{folder}/points.npz") as points:
    x, y, x_query = points["x_support"], points["y_support"], points["x_query"]


def forward(p, x):
    a = np.maximum(x @ p[0] + p[1], 0)
    b = np.maximum(a @ p[2] + p[3], 0)
    return a, b, b @ p[4] + p[5]


for _ in range(5):
    a, b, outputs = forward(p, x)
    d3 = (outputs - y) * p[0].dtype.type(2 / y.size)
    d2 = (d3 @ p[4].T) * (b > 0)
    d1 = (d2 @ p[2].T) * (a > 0)
    gradient = [x.T @ d1, d1.sum(0), a.T @ d2, d2.sum(0), b.T @ d3, d3.sum(0)]
    p = [block - p[0].dtype.type(0.01) * g for block, g in zip(p, gradient, strict=True)]
np.save(out, forward(p, x_query)[2])
