"""Instructions: records that say what to do with offsets into a workspace; a pass through a network is a list of them.

Every instruction has the same bytes: what it is, how threads share it, the geometry of its layer, and fields of its
own, which `_FIELDS` names. Python writes them by these names (`Code.add`), and compiled code reads them by the same:
`one(MASK, code, l).value`. An operand is an offset behind a register, `at(S, n)` is n scalars behind the start of the
set at hand; the step of a schedule sets the registers, so that one list serves every inner step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta_kernels.cpu.layout.layer import Layer
from fastmeta_kernels.cpu.layout.record import record_of, record_type, row_as, seen_as
from fastmeta_kernels.cpu.machine.compiler import intrinsic, types
from fastmeta_kernels.cpu.machine.jit import inlined, kernel
from fastmeta_kernels.cpu.machine.vector import VECTOR_BYTES

# Registers: nothing, parameters, set, direction, tangent set, where a gradient goes, next parameters, inputs of a head.
ZERO, P, S, U, R, G, NEXT, X = range(8)

# How an instruction is dealt to threads: not at all, by samples, by vectors of channels, by itself.
SERIAL, SAMPLES, CHANNELS, OWN = range(4)

(
    PRODUCT, TRANSPOSE, DOTS, BIAS, NORM_FORWARD, NORM_BACKWARD, NORM_FORWARD_TANGENT, NORM_BACKWARD_TANGENT,
    POOL_FORWARD, POOL_SUMS, POOL_BACKWARD, POOL_FORWARD_TANGENT, POOL_SUMS_TANGENT, POOL_BACKWARD_TANGENT,
    NORM_GRADIENT, MASK, ACTIVATE, ACTIVATE_BACKWARD, ACTIVATE_TANGENT, ACTIVATE_BACKWARD_TANGENT,
    MAX_FORWARD, MAX_SELECT, MAX_BACKWARD, MEAN_FORWARD, MEAN_BACKWARD, FLATTEN_FORWARD, FLATTEN_BACKWARD,
    MOVE, LOSS, LOSS_TANGENT, INPUT, PARAMETERS, OUTPUT, DESCEND, RATES, MULTIPLY, HEAD, HEAD_BLOCKS,
    AFFINE, AFFINE_GRADIENT, WINOGRAD, WINOGRAD_WEIGHT, WINOGRAD_SUMS, WINOGRAD_GRADIENT,
    LAYER_NORM, LAYER_NORM_BACKWARD, LAYER_NORM_TANGENT, LAYER_NORM_BACKWARD_TANGENT, LAYER_NORM_GRADIENT,
    SAMPLE_SLOPES, PULL, PULL_BACK, APPEND, APPEND_BACKWARD, APPEND_GRADIENT,
    POLICY_LOSS, POLICY_TANGENT, POLICY_METRIC, PHASES, PHASES_WEIGHT, PHASES_SUMS, PHASES_GRADIENT,
) = range(62)  # fmt: skip

_NORM = "x x_dot dy dy_dot scale shift scale_dot shift_dot out stats tangents flags"
_LOSS = "targets weights z dz probabilities losses loss outputs weighted by_step last_dz constant:f8"
_FIELDS = {  # "targets", "weights", "log_probs", "losses" and "stream" are streams of a job
    TRANSPOSE: "source ld target ldt rows columns",
    DOTS: "x weight bias y x_dot weight_dot",
    BIAS: "dy out add",
    **dict.fromkeys(range(NORM_FORWARD, NORM_GRADIENT), _NORM),
    NORM_GRADIENT: "stats scale shift add",
    MASK: "y value",
    ACTIVATE: "x y",
    ACTIVATE_BACKWARD: "y dy dx",
    ACTIVATE_TANGENT: "y x_dot y_dot",
    ACTIVATE_BACKWARD_TANGENT: "y x_dot dy dy_dot dx_dot",
    MAX_FORWARD: "x y",
    MAX_SELECT: "x y x_dot y_dot",
    MAX_BACKWARD: "x y dy dx",
    MEAN_FORWARD: "x y",
    MEAN_BACKWARD: "dy dx",
    FLATTEN_FORWARD: "x y",
    FLATTEN_BACKWARD: "dy dx",
    MOVE: "position dense to_dense",
    LOSS: _LOSS,
    LOSS_TANGENT: _LOSS,
    SAMPLE_SLOPES: "dz z_dot outputs begin",
    POLICY_LOSS: "targets weights log_probs z dz losses loss outputs weighted by_step clip:f8",
    POLICY_TANGENT: "targets weights log_probs z z_dot dz dz_dot loss outputs weighted rated clip:f8",
    POLICY_METRIC: "weights z z_dot dz loss outputs weighted",
    INPUT: "stream x image_h image_w image_c taps stride padding",
    PARAMETERS: "stream start packed pixels inputs outputs by_pixel by_input by_output direction by_row",
    OUTPUT: "stream outputs size",
    DESCEND: "base source target adapted_from adapted_to size rates packed_rates arrays",
    RATES: "g v adapted_from adapted_to size rates arrays",
    PULL: "g phi theta adapted_from adapted_to",
    PULL_BACK: "u v phi theta to_theta adapted_from adapted_to exact",
    MULTIPLY: "g v target adapted_from adapted_to size",
    HEAD: "phase",
    HEAD_BLOCKS: "",
    AFFINE: "a gain b slope shift out second back",
    AFFINE_GRADIENT: "x d x_dot dy scale shift second add",
    APPEND: "x values y given",
    APPEND_BACKWARD: "dy dx",
    APPEND_GRADIENT: "dy values add",
    LAYER_NORM: "x y scale shift stats",
    LAYER_NORM_BACKWARD: "x dy dx scale stats",
    LAYER_NORM_TANGENT: "x x_dot y_dot scale scale_dot shift_dot stats tangents inner",
    LAYER_NORM_BACKWARD_TANGENT: "x x_dot dy dy_dot dx_dot scale scale_dot stats tangents",
    LAYER_NORM_GRADIENT: "x x_dot d dy stats tangents scale shift second add",
    WINOGRAD: "x x2 u u2 bias y relu back shift panel",
    WINOGRAD_WEIGHT: "a out panel",
    WINOGRAD_SUMS: "x x2 dy dy2 sums parts padding panel",
    WINOGRAD_GRADIENT: "out sums parts add panel",
    PHASES: "x x2 u u2 bias y relu back scheme_y scheme_x panel",
    PHASES_WEIGHT: "a out panel",
    PHASES_SUMS: "x x2 dy dy2 sums parts scheme_y scheme_x panel",
    PHASES_GRADIENT: "out sums parts add panel",
}
_GEOMETRY = "n kind h w c cp oh ow oc ocp kernel x_n x_r y_n y_r"
# C (m, n) = D + A B as in `product`, then the grid's counts and distances, the mask, and where sums over K go.
_PRODUCT = "m columns k1 k a ars acs a1 b ldb b1 bcs c ldc d relu flags i a_i b_i c_i j a_j b_j c_j mask sums"
_STEP = "zero p s u r g next x inner_step rate_row sign begin end"


FIELDS = 29  # int64 of an instruction
STEP = record_of(_STEP)  # of a schedule: its registers, and the instructions [begin, end) that they are for
STEP_FIELDS = STEP.itemsize // 8
LAYOUTS = {kind: record_of(f"op split {_GEOMETRY} {names}", FIELDS) for kind, names in _FIELDS.items()}
LAYOUTS[PRODUCT] = record_of(f"op split {_PRODUCT}", FIELDS)
ANY = record_of(f"op split {_GEOMETRY}", FIELDS)


class Operand(int):
    """An offset behind a register."""

    def behind(self, count: int) -> Operand:
        """`count` scalars further on."""
        return Operand(self + 8 * count)


NONE = Operand(0)  # no operand; or zeros, which lie at the start of a workspace


def at(register: int, offset: int = 0) -> Operand:
    """An operand."""
    return Operand(offset * 8 + register)


class Code:
    """A growing list of instructions."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.void]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, kind: int, split: int, layer: Layer | None = None, /, **fields: float) -> None:
        """An instruction of a kind: how it is dealt to threads, the geometry of a layer, its own fields by name."""
        one = np.zeros((), LAYOUTS[kind])
        one["op"], one["split"] = kind, split
        for name in _GEOMETRY.split() if layer else ():
            one[name] = getattr(layer, name)
        for name, value in fields.items():
            one[name] = value
        self.rows.append(one)

    def array(self) -> NDArray[Any]:
        """(I, FIELDS)."""
        return np.array([np.frombuffer(row.tobytes(), np.int64) for row in self.rows]).reshape(-1, FIELDS)


@intrinsic(prefer_literal=True)
def one(context: Any, kind: Any, code: Any, l: Any) -> Any:
    """Instruction l, which is of that kind, as the record of its fields."""
    if not isinstance(kind, types.Literal):
        return None
    record = record_type(LAYOUTS[kind.literal_value])

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return seen_as(context, builder, record, code, *args[1:])

    return record(kind, code, types.int64), emit


any_one = row_as(ANY)  # instruction l by the fields that all have; a product has `op` and `split` only
step_of = row_as(STEP)  # step r of a schedule


@intrinsic
def _register(context: Any, step: Any, register: Any) -> Any:
    """What a step sets a register to, by its number."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.bitcast(args[0], context.get_value_type(types.CPointer(types.int64)))
        return builder.load(builder.gep(first, [args[1]]))

    return types.int64(step, types.int64), emit


@kernel
def place(step, operand):
    """Offset into the workspace of an operand at a step of a schedule."""
    return (operand >> 3) + _register(step, operand & 7)


@kernel
def share(count, part, parts):
    """First and last of `count` things that are for one of `parts`."""
    if parts == 1:
        return 0, count
    return count * part // parts, count * (part + 1) // parts


@inlined
def vectors(ws, channels, part, parts):
    """First and last of `channels` scalars, in whole vectors, that are for one of `parts`."""
    width = VECTOR_BYTES // ws.itemsize
    first, last = share(channels // width, part, parts)
    return first * width, last * width
