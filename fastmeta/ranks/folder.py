"""Whether all ranks see the folder in which one of them writes."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from fastmeta.ranks.group import Group

PATIENCE = 5.0  # seconds that a network file system may take to show a file


def check_shared(group: Group, path: Any) -> None:
    """ValueError on all ranks where the folder of `path` is not the same on all of them; None is nowhere."""
    given = group.gathered(lambda: path is not None)
    if len(set(given)) > 1:
        raise group.unlike(f"checkpoint is given on rank {given.index(True)} and not on rank {given.index(False)}.")
    if path is None:
        return
    folder = os.path.abspath(os.path.dirname(os.fspath(path)) or os.curdir)
    mark = ""

    def put() -> str:
        nonlocal mark
        if group.first and not mark:
            os.makedirs(folder, exist_ok=True)
            handle, mark = tempfile.mkstemp(prefix=".ranks-", dir=folder)
            os.close(handle)
        return mark

    try:
        name = os.path.basename(group.gathered(put)[0])
        seen = group.gathered(lambda: _is_there(os.path.join(folder, name)))
    finally:
        if mark:
            os.remove(mark)
    if not all(seen):
        raise group.all_end(
            ValueError(
                f'checkpoint="{path}" must be in a folder that all ranks share; rank {seen.index(False)} does not see '
                f"what rank 0 wrote in {folder}. Give one on a file system of all machines."
            )
        )


def _is_there(path: str) -> bool:
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.05)
    return os.path.exists(path)
