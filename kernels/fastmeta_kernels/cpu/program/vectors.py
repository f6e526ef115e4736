"""Where parameter vectors, gradients and sets of a task lie in a workspace, and a step's registers over them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastmeta_kernels.cpu.layout.instruction import NONE, Operand
from fastmeta_kernels.cpu.program.choices import Choices


@dataclass
class Vectors:
    """Offsets in scalars; `g` and `sets` are those of the first inner step."""

    choices: Choices
    theta: int
    query: int = 0  # the query set
    g: int = 0
    sets: int = 0
    set_size: int = 0
    features: int = 0  # the body's set, where only the head moves
    rates: Operand = NONE  # a rate for each parameter, where there are so many
    products: dict[int, tuple[Operand, Operand]] = field(default_factory=dict)  # of `layers.shared`, by layer

    def phi(self, k: int) -> int:
        """phi_k; where few are kept the last serves for all behind it."""
        return self.theta + min(k, self.choices.kept) * self.choices.query.packed

    def set(self, k: int) -> int:
        """The set of inner step k."""
        return self.sets + (k * self.set_size if self.choices.keeps_sets else 0)

    def other_set(self) -> dict[str, int]:
        """The registers of the query set's passes, of layers that no task has for itself."""
        return {"u": self.theta, "x": self.set(0), "sign": -1} if self.products else {}

    def at_step(self, k: int) -> dict[str, int]:
        """The registers of inner step k."""
        g = self.g + (k * self.choices.query.packed if self.choices.keeps_gradients else 0)
        row = k if self.choices.request.rates[0] > 1 else 0
        return {"p": self.phi(k), "s": self.set(k), "g": g, "x": self.features, "inner_step": k, "rate_row": row}
