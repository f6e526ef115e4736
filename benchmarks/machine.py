"""The machine and the source that a run measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def describe(device: str) -> dict[str, Any]:
    """Processor, usable cores, memory, system, the GPU where it is used, fastmeta's commit where this is a clone."""
    return {
        "processor": _processor(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "commit": _commit(),
        "gpu": _gpu() if device == "cuda" else "",
    }


def busy_cores(seconds: float = 1.0) -> float | None:
    """Cores that are busy while this run is idle, or None where the system does not say."""
    try:
        before = _core_ticks()
        time.sleep(seconds)
        used, passed = (b - a for a, b in zip(before, _core_ticks(), strict=True))
    except OSError:
        return None
    return round((os.cpu_count() or 1) * used / max(passed, 1), 2)


def peak_memory() -> float:
    """Largest resident memory of this program, MiB; getrusage counts that of the process that started it, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _core_ticks() -> tuple[int, int]:
    """Ticks of all cores since the start: not idle, and all."""
    ticks = [int(n) for n in Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _processor() -> str:
    """Model and widest vector instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    flags = known.get("flags", known.get("Features", "")).split()
    widest = next((name for name in ("avx512f", "avx2", "avx", "asimd") if name in flags), "")
    model = known.get("model name", platform.machine())
    family = f"family {known['cpu family']} model {known['model']}" if "cpu family" in known else ""
    return ", ".join(part for part in (model, family, widest) if part)


def _gpu() -> str:
    """Name, memory and driver of the first GPU."""
    query = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown GPU"


def _commit() -> str:
    """Hash, with "+" where files differ from it; "" outside a clone."""

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("status", "--porcelain", "fastmeta", "kernels"))
    except (OSError, subprocess.CalledProcessError):
        return ""
