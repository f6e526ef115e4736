"""NAME.py: an artifact's library through ctypes, without NumPy."""

from __future__ import annotations

import math
import re
from pathlib import Path

from fastmeta.exports.model import ExportModel

TEMPLATE = Path(__file__).parent / "c" / "wrapper.py"


def module(model: ExportModel, name: str, version: str) -> str:
    """The text of NAME.py."""
    inputs = math.prod(model.net.input_shape)
    constants = {"NAME": name, "INPUTS": inputs, "OUTPUTS": model.outputs, "STEPS": model.steps}
    constants |= {"LABELS": model.classifies, "HASH": model.hash[:8]}
    text = TEMPLATE.read_text("utf-8").replace("A model", f"{name}, written by fastmeta {version}", 1)
    for key, value in constants.items():
        shown = f'"{value}"' if isinstance(value, str) else repr(value)
        text = re.sub(rf"^{key} = .*$", f"{key} = {shown}", text, flags=re.M)
    return text
