"""What the experiments share: a line of JSON a row, and what it says of its training."""

from __future__ import annotations

import json
import time
from typing import Any

RATES = [0.5, 0.25]  # of the papers' tests: the first step, and those behind it


def say(**row: Any) -> None:
    """One line of JSON."""
    print(json.dumps(row), flush=True)


def told(learner: Any, begin: float) -> dict[str, Any]:
    """Seconds, and what the history ends with."""
    history = learner.history
    if not len(history["loss"]):
        return {}
    last = {n: round(float(v[-10:].mean()), 4) for n, v in history.items() if n in ("entropy", "kl", "accepted")}
    return {"seconds": round(time.perf_counter() - begin, 1), "last ten": last}
