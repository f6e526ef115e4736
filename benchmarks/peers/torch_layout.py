"""theta and data in PyTorch's layouts: images (N, C, H, W), kernels (O, I, 3, 3). Linear weights stay (I, O)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.networks import Conv4
from benchmarks.workloads import Workload

Parameters = Sequence[Any]


def versions() -> dict[str, str]:
    """Of the package that computes."""
    return {"torch": torch.__version__}


def prepare() -> None:
    """As many threads as the run has; float32 products in float32 on a GPU too."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def split(workload: Workload, theta: NDArray[Any], device: str) -> tuple[Any, ...]:
    """The blocks of theta; the head of a pooled network reads its features in C, H, W order."""
    network, shapes = workload.network, workload.network.parameter_shapes
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=int)
    blocks = [block.reshape(shape) for block, shape in zip(np.split(theta, ends)[:-1], shapes, strict=True)]
    if isinstance(network, Conv4) and network.pooled and network.outputs:
        h, w = network.sides[-1]
        blocks[-2] = blocks[-2].reshape(h, w, network.channels, -1).transpose(2, 0, 1, 3).reshape(shapes[-2])
    blocks = [np.ascontiguousarray(b.transpose(3, 2, 0, 1) if b.ndim == 4 else b) for b in blocks]
    return tuple(torch.tensor(block, device=device) for block in blocks)


def tensor(array: NDArray[Any], device: str) -> Any:
    """Images (..., H, W, C) become (..., C, H, W)."""
    array = np.ascontiguousarray(np.moveaxis(array, -1, -3)) if array.ndim >= 4 else array
    return torch.tensor(array, device=device)


def vector(workload: Workload, result: Any) -> NDArray[Any]:
    """The flat result in fastmeta's layouts."""
    blocks = [block.detach() for block in result]
    network = workload.network
    if isinstance(network, Conv4) and network.pooled and network.outputs:
        h, w = network.sides[-1]
        blocks[-2] = blocks[-2].reshape(network.channels, h, w, -1).permute(1, 2, 0, 3)
    blocks = [block.permute(2, 3, 1, 0) if i < 12 and block.ndim == 4 else block for i, block in enumerate(blocks)]
    return np.concatenate([block.cpu().numpy().ravel() for block in blocks])


def completed(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """`call` that returns when the device has finished."""
    if device == "cpu":
        return call

    def finished() -> Any:
        result = call()
        torch.cuda.synchronize()
        return result

    return finished


def event_seconds(call: Callable[[], Any]) -> float:
    """One call by the GPU's clock."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3


def device_mb() -> float:
    """Highest memory of tensors on the GPU."""
    return float(torch.cuda.max_memory_allocated()) / 2**20
