"""PyTorch without a compiler."""

import sys

import numpy as np
import torch
import torch.nn.functional as F

_, folder, out = sys.argv[1:]
with np.load(f"{folder}/weights.npz") as file:
    blocks = [file[f"linear{i}_{name}"] for i in (1, 2, 3) for name in ("weight", "bias")]
with np.load(f"{folder}/points.npz") as points:
    x, y, x_query = (torch.from_numpy(points[name]) for name in ("x_support", "y_support", "x_query"))
p = [torch.from_numpy(block).requires_grad_() for block in blocks]


def forward(p, x):
    return F.relu(F.relu(x @ p[0] + p[1]) @ p[2] + p[3]) @ p[4] + p[5]


for _ in range(5):
    gradient = torch.autograd.grad(F.mse_loss(forward(p, x), y), p)
    p = [(block - 0.01 * g).detach().requires_grad_() for block, g in zip(p, gradient, strict=True)]
with torch.no_grad():
    np.save(out, forward(p, x_query).numpy())
