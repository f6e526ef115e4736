"""What an export is: its files, and what it takes on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastmeta.exports.c_source import sizes
from fastmeta.exports.model import ExportModel
from fastmeta.exports.places import Places

CODE = 5120  # bytes, at most, on a Cortex-M4F with -Os
STACK = 512  # bytes, at most, of the deepest call on a Cortex-M


@dataclass(frozen=True)
class ExportReport:
    """Files written, none in a dry run; sizes in bytes, and multiply-adds. str(report) is a table.

    flash: parameters and tables, without code. state: what a task taught. work: scratch of a call. adapt, predict:
    multiply-adds of one adaptation with `samples` and the steps of training, and of one sample. error: the worst
    difference from float64 that the compiled artifact finds in itself, None without a C compiler. moved: how far
    a float64 parameter was rounded, at most.
    """

    name: str
    to: str
    files: tuple[Path, ...]
    flash: int
    state: int
    work: int
    adapt: int
    predict: int
    samples: int
    steps: int
    batch_norm: str
    error: float | None = None
    moved: float = 0.0

    def __str__(self) -> str:
        memory = [
            (f"{self.name}: parameters and tables", f"{self.flash:,} bytes of flash, and 1 to 5 KB of code"),
            ("state", f"{self.state:,} bytes of RAM, what a task taught"),
            ("work", f"{self.work:,} bytes of RAM, free between calls"),
            ("stack", f"at most {STACK} bytes"),
        ]
        rows = [
            *(memory if self.to != "onnx" else [(f"{self.name}: parameters", f"{self.flash:,} bytes")]),
            ("one adapt", f"{self.adapt:,} multiply-adds, {self.samples} samples{self._steps}"),
            ("one predict", f"{self.predict:,} multiply-adds a sample{self._norm}"),
        ]
        if self.moved:
            rows.append(("rounding", f"float64 parameters moved by at most {self.moved:.1e}"))
        if self.error is not None:
            rows.append(("self-test", f"worst difference from float64 {self.error:.1e}"))
        width = max(len(label) for label, _ in rows)
        lines = [f"{label:<{width}}  {value}" for label, value in rows]
        return "\n".join(lines + [f"wrote {path}" for path in self.files])

    @property
    def _steps(self) -> str:
        return f", {self.steps} steps" if self.steps else ""

    @property
    def _norm(self) -> str:
        return f", batch norm {self.batch_norm}" if self.batch_norm else ""


def report(model: ExportModel, name: str, queries: int, to: str = "c") -> ExportReport:
    """The sizes of a model, before anything is written."""
    places, held = Places(model), sizes(model, queries)
    whole, moving = places.multiplications
    passes = model.samples * whole if places.first or "NORM" in places.kinds else 0
    steps = model.steps * places.step_samples * 3 * moving  # forwards, slopes by inputs and by parameters
    return ExportReport(
        name=name,
        to=to,
        files=(),
        flash=_flash(model, places),
        state=held["SAVED"] - 12,
        work=4 * work_words(model, held),
        adapt=steps + passes if model.kind == "steps" else model.samples * whole,
        predict=whole,
        samples=model.samples,
        steps=model.steps,
        batch_norm=model.batch_norm,
        moved=model.moved,
    )


def work_words(model: ExportModel, held: dict[str, int]) -> int:
    """Words of 32 bits in the work."""
    steps, body = model.kind == "steps", Places(model).first > 0
    words = held.get("KEPT", 0) + 2 * held["TURN"] + 2 * held["CHANNELS"] + held.get("STATISTICS", 0)
    words += held["SAMPLES"] * held["FEATURES"] if steps and body else 0
    words += held["CHANNELS"] if model.codes is not None else 0
    if model.batches is not None:
        words += held["BATCH"] * (held["FEATURES"] + (1 if model.classifies else held["OUTPUTS"]))
    return words


def _flash(model: ExportModel, places: Places) -> int:
    count = model.net.parameter_count
    stored = 4 * count if model.codes is None else count + 8 * len(model.net.parameter_shapes) + 4
    tables = [values.size for values in (model.rates, model.step_norms, model.running) if values is not None]
    batches = 0 if model.batches is None else 2 * model.batches.size
    return stored + 4 * sum(tables) + batches + 64 * len(places.layers)
