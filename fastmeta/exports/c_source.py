"""A model as C: the files of c/ without what it does not need, with its numbers and its name.

One file of more than 200 lines, because the parts of a C program are written in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.exports.golden import Golden
from fastmeta.exports.model import ExportModel
from fastmeta.exports.places import Places
from fastmeta_kernels import layer_table as lt

FOLDER = Path(__file__).parent / "c"
PARTS = ("numbers", "stored", "affine", "product", "norm", "layer_norm", "activations", "pooling", "pass")
CONDITION = re.compile(r"#(ifdef|ifndef|else|endif)(?: MODEL_WITH_(\w+))?\s*$")


def features(model: ExportModel) -> set[str]:
    """The words behind MODEL_WITH_ that hold of a model."""
    places, steps = Places(model), model.kind == "steps"
    norm, frozen = "NORM" in places.kinds, model.batch_norm == "frozen"
    unit, cosine = model.metric == "centroid", model.metric == "cosine"
    rates = 1 if model.rates is None else model.rates.shape[1]
    arrays = len(model.net.parameter_shapes)
    held = {
        "STEPS": steps,
        "PROTOTYPES": not steps,
        "BODY": steps and places.first > 0,
        "BODY_NORM": steps and places.body_norm,
        "MOVING_NORM": steps and places.moving_norm and frozen,
        "MEASURING": steps and norm and frozen,
        "FIXED_NORMS": norm and model.batch_norm != "transductive",
        "TOGETHER": norm and model.batch_norm == "transductive",
        "RUNNING": model.running is not None,
        "STEP_NORMS": model.step_norms is not None,
        "BATCHES": model.batches is not None,
        "LABELS": model.classifies,
        "BYTES": model.codes is not None,
        "UNMOVED": model.adapted != (0, model.net.parameter_count),
        "RATE_EACH": rates > 1 and rates == model.net.parameter_count,
        "RATE_ARRAYS": rates > 1 and rates == arrays != model.net.parameter_count,
        "PROXIMAL": model.pull > 0,
        "EUCLIDEAN": model.metric == "euclidean",
        "COSINE": cosine,
        "UNIT_LENGTH": unit,
        "LENGTHS": cosine or unit,
        "DOT": steps or cosine or unit,
        "SQRT": norm or "LAYER_NORM" in places.kinds or cosine or unit,
        "SCALED": "AFFINE" in places.kinds or (norm and model.batch_norm != "transductive"),
        "EXP": (steps and model.classifies) or bool({"TANH", "SOFTPLUS"} & places.kinds),
    }
    return {name for name, holds in held.items() if holds} | places.kinds


def sizes(model: ExportModel, queries: int) -> dict[str, int]:
    """The constants of the header, by their names behind MODEL_."""
    places, steps = Places(model), model.kind == "steps"
    norms = places.statistics if model.batch_norm != "transductive" else 0
    adapted = model.adapted[1] - model.adapted[0]
    words = 1 + adapted + norms + (0 if steps else model.outputs * (places.features + 1))
    batch = {} if model.batches is None else {"BATCH": int(model.batches.shape[1])}
    most = 1_000_000 if model.batches is None else len(model.batches)
    held = {"INPUTS": int(np.prod(model.net.input_shape)), "OUTPUTS": model.outputs, "SAMPLES": model.samples}
    held |= {"QUERIES": queries} if model.batch_norm == "transductive" else {}
    held |= {"STEPS": model.steps, "MOST_STEPS": most, "ADAPTED": adapted} if steps else {}
    held |= {"KEPT": places.step_samples * places.kept} if steps else {}
    held |= {"NORMS": norms, "STATISTICS": places.statistics} if places.statistics else {}
    held |= {"TURN": places.turn(queries), "FEATURES": places.features} | batch
    return held | {"CHANNELS": max(layer.row[lt.OUT_C] for layer in places.layers), "SAVED": 4 * words + 12}


def header(model: ExportModel, name: str, queries: int, version: str) -> str:
    """NAME.h."""
    lines = [
        f"#define MODEL_HASH 0x{model.hash[:8]}u",
        "enum {",
        *_constants({"FORMAT": 1} | sizes(model, queries)),
        "};",
    ]
    title = f"{_plain(model.learner)}. Written by fastmeta {version}; SHA-256 {model.hash}. Compile as C99."
    text = _resolved((FOLDER / "model.h").read_text("utf-8"), features(model))
    return _named(_filled(text, "sizes", lines).replace("@title", title), name)


def source(model: ExportModel, golden: Golden, name: str, version: str) -> str:
    """NAME.c."""
    found = features(model)
    kind = "steps" if model.kind == "steps" else "prototypes"
    shared = (FOLDER / "parts.h").read_text("utf-8").split("#define PARTS_H\n")[1].rsplit("#endif", 1)[0]
    parts = [_filled(shared, "data", [*_constant_data(model, golden)])]
    parts += [(FOLDER / f"{part}.c").read_text("utf-8") for part in (*PARTS, kind, "save", "self_test")]
    text = "\n".join(part.replace('#include "parts.h"\n', "").strip("\n") + "\n" for part in parts)
    kinds = [*dict.fromkeys(layer.kind for layer in Places(model).layers)]
    text = re.sub(
        r"enum \{\n    MODEL_PRODUCT,.*?\};", f"enum {{ {', '.join(f'MODEL_{k}' for k in kinds)} }};", text, flags=re.S
    )
    first = f"/* Written by fastmeta {version}: see {name}.h. */\n"
    return _named(first + re.sub(r"\n{3,}", "\n\n", _resolved(text, found)), name)


def program(name: str) -> str:
    """NAME_test.c."""
    return _named((FOLDER / "test.c").read_text("utf-8"), name)


def _constant_data(model: ExportModel, golden: Golden) -> Iterator[str]:
    places, steps = Places(model), model.kind == "steps"
    constants = {"LAYERS": len(places.layers), "FIRST_LAYER": places.first, "FIRST": model.adapted[0]}
    constants |= {"ARRAYS": len(model.net.parameter_shapes), "PARAMETERS": model.net.parameter_count}
    constants |= {"RATE_ROWS": len(model.rates)} if model.rates is not None else {}
    own = model.step_norms if model.step_norms is not None else model.running
    constants |= {"NORM_ROWS": len(own)} if own is not None else {}
    constants |= {"NORM_VALUES": int(own[0].size)} if own is not None else {}
    yield from ["enum {", *_constants(constants | {"TEST_QUERIES": len(golden.outputs)}), "};"]
    yield "static const model_layer model_layers[] = {"
    for layer in places.layers:
        row = list(layer.row)
        shape = row[lt.IN_H : lt.OUT_C + 1]
        window = row[lt.KERNEL : lt.PADDING + 1] if row[lt.KERNEL] else [1, 1, 0]
        values = [*shape, *window, row[lt.WEIGHT], row[lt.BIAS], layer.array, layer.x, layer.y, layer.statistics]
        yield f"    {{MODEL_{layer.kind}, {', '.join(map(str, values))}}},"
    yield "};"
    if model.codes is not None and model.scales is not None:
        yield from _array("static const signed char model_stored[]", model.codes)
        yield from _array("static const float model_scales[]", model.scales)
        yield from _array("static const int32_t model_edges[]", lt.blocks(model.net.table)) if steps else ()
    else:
        yield from _array("static const float model_stored[]", model.theta)
    if steps and model.rates is not None:
        yield from _array("static const float model_rates[]", model.rates)
    if model.step_norms is not None:
        yield from _array("static const float model_step_norms[]", model.step_norms)
    if model.running is not None:
        yield from _array("static const float model_running[]", running_rows(model))
    if model.batches is not None:
        yield from _array("static const uint16_t model_batches[]", model.batches)
    if model.pull:
        yield f"static const float model_pull = {_number(model.pull)};"
    if model.metric == "cosine":
        yield f"static const float model_scale = {_number(model.scale)};"
    yield "#ifndef MODEL_NO_TEST"
    yield f"static const uint32_t model_test_seed = {golden.seed}u;"
    yield f"static const float model_test_scale = {_number(golden.scale)};"
    yield from _array("static const float model_test_outputs[]", golden.outputs)
    yield "#endif"


def running_rows(model: ExportModel) -> NDArray[Any]:
    """(S + 1, 2 C) float32: the mean and 1 / deviation of each batch norm, one behind the other."""
    assert model.running is not None
    edges = np.cumsum([layer.row[lt.OUT_C] for layer in Places(model).layers if layer.kind == "NORM"])[:-1]
    deviations = 1 / np.sqrt(model.running[:, 1].astype(np.float64) + lt.BATCH_NORM_EPSILON)
    pairs = zip(np.split(model.running[:, 0], edges, axis=1), np.split(deviations, edges, axis=1), strict=True)
    return np.concatenate([part for pair in pairs for part in pair], axis=1).astype(np.float32)


def _resolved(text: str, found: set[str]) -> str:
    """`text` without the lines whose MODEL_WITH_ condition does not hold, and without those conditions."""
    kept: list[str] = []
    stack: list[bool | None] = []  # None: a condition of the C compiler's
    for line in text.split("\n"):
        match = CONDITION.match(line)
        word, feature = match.groups() if match else ("", None)
        if line.startswith("#if") and feature is None:
            stack.append(None)
        elif word in ("ifdef", "ifndef"):
            stack.append((feature in found) == (word == "ifdef"))
            continue
        elif word == "else" and stack[-1] is not None:
            stack[-1] = not stack[-1]
            continue
        elif word == "endif" and stack.pop() is not None:
            continue
        if False not in stack:
            kept.append(line)
    return "\n".join(kept)


def _filled(text: str, mark: str, lines: Iterable[str]) -> str:
    """`text` with `lines` in place of what is between the marks."""
    before, rest = text.split(f"/* @{mark}:")
    return before + "\n".join(lines) + rest.split("/* @end */")[1]


def _named(text: str, name: str) -> str:
    text = re.sub(r"\bmodel(?=_|\.h\b)", name, text)
    return re.sub(r"\bMODEL_", f"{name.upper()}_", text)


def _plain(text: str) -> str:
    """Text that may stand in a comment."""
    ascii_only = text.encode("ascii", "replace").decode()
    return re.sub(r"[^\x20-\x7e]|\*/|/\*|\\|\?\?", " ", ascii_only)[:200]


def _constants(values: dict[str, int]) -> list[str]:
    return [f"    MODEL_{name} = {value}," for name, value in values.items()][:-1] + [
        f"    MODEL_{name} = {value}" for name, value in list(values.items())[-1:]
    ]


def _array(declaration: str, values: NDArray[Any]) -> Iterator[str]:
    words = [_number(v) if values.dtype.kind == "f" else str(int(v)) for v in values.ravel()]
    yield f"{declaration} = {{"
    for i in range(0, len(words), 10):
        yield "    " + " ".join(f"{word}," for word in words[i : i + 10])
    yield "};"


def _number(value: float) -> str:
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")
