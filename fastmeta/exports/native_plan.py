"""The programs of one width of vectors, by a process of its own: planners know one width.

`python -m fastmeta.exports.native_plan WIDTH` reads requests and writes what it planned; `planned` is its other end.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any, NamedTuple

from fastmeta_kernels import library
from fastmeta_kernels.contract import Array
from fastmeta_kernels.request import Request


class Planned(NamedTuple):
    """A program: the scalars of its workspace, its rows as int64, and rows for a chunk's first and last task."""

    workspace: int
    code: Array
    schedule: Array
    edges: Array
    first_rows: int
    last_rows: int


def planned(width: int, requests: list[Request]) -> list[Planned]:
    """The programs of these requests for vectors of so many bytes."""
    given = {"FASTMETA_VECTOR_BYTES": str(width), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "fastmeta.exports.native_plan", str(width)]
    done = subprocess.run(
        command, input=pickle.dumps(requests), env=os.environ | given, stdout=subprocess.PIPE, check=True
    )
    return [Planned(*of) for of in pickle.loads(done.stdout)]


def main(width: int) -> None:
    """Plan what standard input asks for."""
    library.plan_only(next(level for level in library.LEVELS if level.vector_bytes == width))
    from fastmeta_kernels.cpu.program.program import program

    def plan(request: Request) -> tuple[Any, ...]:
        of = program(request)
        return of.workspace, of.code, of.schedule, of.query.edges, of.first_rows, of.last_rows

    sys.stdout.buffer.write(pickle.dumps([plan(one) for one in pickle.load(sys.stdin.buffer)]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
