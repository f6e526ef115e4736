"""What a setting says of itself: one line in words and the values it takes, for whoever asks people for values.

A constructor annotates its arguments with them, `inner_steps: Annotated[int, Setting(int, "Inner steps ...")]`; the
command line makes an option of each.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network


class Setting(NamedTuple):
    """One value: a whole number (int), a positive or, where `at_least` is 0, not negative number (float), a switch
    (bool), a text (str), whole numbers in rising order (tuple), or one of some words."""

    kind: type | tuple[str, ...]
    text: str
    at_least: int = 1
    required: bool = False


class Share(NamedTuple):
    """The value of another setting, or a whole share of it: Share("iterations", 10) is a tenth."""

    setting: str
    of: int = 1

    def __str__(self) -> str:
        return self.setting.replace("_", " ") + (f" / {self.of}" if self.of > 1 else "")


class Argument(NamedTuple):
    """A constructor's argument that is a setting, and its default."""

    setting: Setting
    default: Any


def arguments(kind: Any) -> dict[str, Argument]:
    """The annotated arguments of a constructor, by name."""
    hints = get_type_hints(kind.__init__, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        for note in getattr(hints.get(name), "__metadata__", ()):
            if isinstance(note, Setting):
                found[name] = Argument(note, parameter.default)
    return found


def constructed_with(learner: Any) -> dict[str, Any]:
    """The constructor's arguments but for net and device as plain JSON values, networks and losses as dicts.

    They are kept under their names. One that is given by its name only is left out where it is None.
    """
    values = {}
    for name, argument in inspect.signature(type(learner)).parameters.items():
        value = getattr(learner, name)
        if name not in ("net", "device") and (value is not None or argument.kind is not argument.KEYWORD_ONLY):
            values[name] = _plain(value)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Network | Loss):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
