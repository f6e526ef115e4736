"""What a meta-iteration costs, in turn with a peer's program."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastmeta import rl

PEER = re.compile(r"cpu +([\d.]+) total +([\d.]+) s")


def speed(device: str, peer: str | None, threads: int | None, rounds: int) -> Iterator[dict[str, Any]]:
    """A meta-iteration of 20 x 20 x 100 on 100-100, all samples and a quarter in products, and sampling.

    `peer`: a program that prints a line with "cpu 4.5 total 1.23 s" an iteration, CPU seconds of its process so far and
    wall-clock seconds, when it is called with the number of iterations, "loop" and 100, and with `threads`, if they
    are given; it runs in turn with ours. CPU seconds are of all threads: what other programs do changes them least.
    """
    world, net = rl.Navigation2D(), rl.gaussian_policy(2, 2)
    if threads:
        os.environ["FASTMETA_NUM_THREADS"] = str(threads)
    found: dict[str, dict[str, list[float]]] = {}

    def add(row: str, **values: float) -> None:
        for name, value in values.items():
            found.setdefault(row, {}).setdefault(name, []).append(value)

    for _ in range(rounds):
        for share in (1.0, 0.25):
            learner, clock = rl.MAML(net, device=device), [time.process_time()]
            region = rl.TrustRegion(curvature_share=share)
            learner.fit(world, 3, 20, optimizer=region, callback=lambda *_, c=clock: c.append(time.process_time()))
            history = learner.history
            add(
                f"curvature share {share}",
                seconds=float(history["seconds"][1:].min()),
                cpu_seconds=float(np.diff(clock)[1:].min()),
                env_steps_per_second=float((history["env_steps"] / history["seconds_sampling"])[1:].max()),
            )
        if peer:
            command = [sys.executable, peer, "3", "loop", "100", *([str(threads)] if threads else [])]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            pairs = [(float(cpu), float(wall)) for cpu, wall in PEER.findall(said)]
            add(Path(peer).name, seconds=min(wall for _, wall in pairs[1:]))
            add(Path(peer).name, cpu_seconds=float(np.diff([cpu for cpu, _ in pairs]).min()))
    for row, values in found.items():
        middle = {name: round(statistics.median(each), 3) for name, each in values.items()}
        yield {"row": row, "median": middle, "all": {name: np.round(each, 3).tolist() for name, each in values.items()}}
