"""Jobs of linear and convolution layers: which products make up each of the four functions; see convolution.cuh."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmeta_kernels.cuda.layout.network import Layer
from fastmeta_kernels.cuda.layout.places import Places, Sets
from fastmeta_kernels.cuda.layout.recording import NONE, Batched, Recording, struct
from fastmeta_kernels.cuda.machine.kernel_table import TILES

SIDE, DEPTH = 16, 16  # threads along a tile, summed places of a stage: as in product.cuh
FULL = 2 * 132  # blocks that fill a large GPU; a constant, so that results do not depend on the machine
FEW = 66  # up to here a product is worth splitting
MOST_SPLITS, LEAST_STAGES = 16, 4


class Pair(NamedTuple):
    """The factors of one product; `ones` is what the bias is multiplied with."""

    x: Batched = NONE
    weight: Batched = NONE
    dy: Batched = NONE
    ones: int = 0


def divisor(n: int) -> Any:
    """The multiplier and shift of a division by n; see `Divisor` in base.cuh."""
    bits = 31 + max(0, (n - 1).bit_length())
    return struct("Divisor", divisor=n, multiplier=-(-(1 << bits) // n) & 0xFFFFFFFF, shift=max(0, bits - 32))


def forward(sets: Sets, layer: Layer, at: Places) -> None:
    """y = R(x) [W; b], rectified behind a fused ReLU."""
    _convolve(sets, layer, [Pair(at.x, at.weight, NONE, 1)], at.y, NONE, layer.relu)


def forward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """y_dot = R(x) [W_dot; b_dot] + R(x_dot) W."""
    pairs = [Pair(at.x, at.weight_dot, NONE, 1)]
    if at.x_dot != NONE:
        pairs.append(Pair(at.x_dot, at.weight, NONE, 0))
    _convolve(sets, layer, pairs, at.y_dot, at.y_mask, False)


def backward(sets: Sets, layer: Layer, at: Places) -> None:
    """dx = R^T(dy W^T), [dW; db] = [R(x) 1]^T dy."""
    inputs, weights = [Pair(dy=at.dy, weight=at.weight)], [Pair(x=at.x, dy=at.dy, ones=1)]
    _convolve_backward(sets, layer, inputs, weights, at.dx, at)


def backward_tangent(sets: Sets, layer: Layer, at: Places) -> None:
    """dx_dot = R^T(dy_dot W^T + dy W_dot^T), [dW_dot; db_dot] = [R(x) 1]^T dy_dot + [R(x_dot) 0]^T dy."""
    inputs = [Pair(dy=at.dy_dot, weight=at.weight), Pair(dy=at.dy, weight=at.weight_dot)]
    weights = [Pair(x=at.x, dy=at.dy_dot, ones=1)]
    if at.x_dot != NONE:
        weights.append(Pair(x=at.x_dot, dy=at.dy, ones=0))
    _convolve_backward(sets, layer, inputs, weights, at.dx_dot, at)


def _convolve(sets: Sets, layer: Layer, pairs: list[Pair], result: Batched, mask: Batched, rectified: bool) -> None:
    """result = sum_p R(x_p) [W_p; b_p], rectified, or, with a mask, where the mask is positive."""
    size = _Size(sets.samples * layer.out_h * layer.out_w, layer.out_c, _taps(layer))
    tile = min(TILES, key=lambda t: size.padded(t))
    job, blocks = _job(sets.recording, layer, sets.tasks, size, tile, pairs, result, mask, rectified)
    sets.recording.job(f"convolve<T, P, {tile[0]}, {tile[1]}>", blocks, job)
    _add_splits(sets.recording, job)


def _convolve_backward(
    sets: Sets, layer: Layer, inputs: list[Pair], weights: list[Pair], dx: Batched, at: Places
) -> None:
    """dx = sum_p R^T(dy_p W_p^T), unless it is NONE, and [dW; db] = sum_p [R(x_p) 1]^T dy_p, in one job."""
    recording, tasks, samples = sets
    places = samples * layer.out_h * layer.out_w
    weight_size = _Size(_taps(layer), layer.out_c, places)
    quarter = _quarter(layer)
    reaching = (-(-layer.kernel // layer.stride)) ** 2 * layer.out_c
    input_size = _Size(samples * quarter[0] * quarter[1], layer.c, reaching, layer.stride**2)
    sizes = [weight_size] if dx == NONE else [weight_size, input_size]
    tile = min(TILES, key=lambda t: sum(size.padded(t) for size in sizes))
    pair = struct("ProductPair")
    if dx != NONE:
        job, blocks = _job(recording, layer, tasks, input_size, tile, inputs, dx, at.mask, False)
        pair["dx"], pair["input_blocks"] = job, blocks
        pair["dx"]["rows"] = samples * layer.h * layer.w
    pair["dw"], blocks = _job(recording, layer, tasks, weight_size, tile, weights, at.dweight, NONE, False)
    behind = _partial_values(pair["dx"])
    partial = recording.scratch(behind + _partial_values(pair["dw"]))
    pair["dx"]["partial"], pair["dw"]["partial"] = partial, partial.at(behind, recording.dtype.itemsize)
    recording.job(f"convolve_backward<T, P, {tile[0]}, {tile[1]}>", int(pair["input_blocks"]) + blocks, pair)
    for job in (pair["dx"], pair["dw"]):
        _add_splits(recording, job)


class _Size(NamedTuple):
    rows: int
    columns: int
    depth: int
    classes: int = 1  # products of this size

    def tiles(self, tile: tuple[int, int]) -> tuple[int, int]:
        return -(-self.rows // (tile[0] * SIDE)), -(-self.columns // (tile[1] * SIDE))

    def padded(self, tile: tuple[int, int]) -> int:
        """Multiplications and loads of a thread, over all tiles, those of padding included."""
        rows, columns = self.tiles(tile)
        return rows * columns * (tile[0] * tile[1] + tile[0] + tile[1]) * self.depth


def _job(
    recording: Recording,
    layer: Layer,
    tasks: int,
    size: _Size,
    tile: tuple[int, int],
    pairs: list[Pair],
    result: Batched,
    mask: Batched,
    rectified: bool,
) -> tuple[Any, int]:
    row_tiles, column_tiles = size.tiles(tile)
    blocks = size.classes * row_tiles * column_tiles
    stages = -(-size.depth // DEPTH)
    few = tasks * blocks <= FEW
    splits = max(1, min(-(-FULL // (tasks * blocks)), stages // LEAST_STAGES, MOST_SPLITS)) if few else 1
    job = struct("Product", pairs=len(pairs), result=result, mask=mask, rectified=rectified, window=_window(layer))
    for i, pair in enumerate(pairs):
        job["x"][i], job["weight"][i], job["dy"][i], job["ones"][i] = pair
    job["rows"], job["columns"], job["depth"] = size[:3]
    job["row_tiles"], job["column_tiles"], job["splits"] = row_tiles, column_tiles, splits
    job["partial"] = recording.scratch(_partial_values(job))
    return job, blocks * splits


def _partial_values(job: Any) -> int:
    splits = int(job["splits"])
    return splits * int(job["rows"]) * int(job["columns"]) if splits > 1 else 0


def _add_splits(recording: Recording, job: Any) -> None:
    if job["splits"] > 1:
        recording.job("add_splits<T>", -(-int(job["rows"]) * int(job["columns"]) // 256), job)


def _taps(layer: Layer) -> int:
    return layer.kernel**2 * layer.c + (layer.bias >= 0)


def _quarter(layer: Layer) -> tuple[int, int]:
    return -(-layer.h // layer.stride), -(-layer.w // layer.stride)


def _window(layer: Layer) -> Any:
    quarter_h, quarter_w = _quarter(layer)
    return struct(
        "Window",
        h=layer.h,
        w=layer.w,
        c=layer.c,
        out_h=layer.out_h,
        out_w=layer.out_w,
        out_c=layer.out_c,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        quarter_h=quarter_h,
        quarter_w=quarter_w,
        by_c=divisor(layer.c),
        by_kernel=divisor(layer.kernel),
        by_out_c=divisor(layer.out_c),
        by_out_w=divisor(layer.out_w),
        by_out_pixels=divisor(layer.out_h * layer.out_w),
        by_quarter_w=divisor(quarter_w),
        by_quarter_pixels=divisor(quarter_h * quarter_w),
    )
