"""Whose statistics batch norm has where the query loss is taken in training: a setting of the gradient learners."""

from __future__ import annotations

from typing import Annotated

from fastmeta import checks
from fastmeta.learning.settings import Setting
from fastmeta.networks.network import Network

MODES = ("transductive", "frozen")
QueryBatchNorm = Annotated[str | None, Setting(MODES, "Whose statistics the query loss of training uses.")]


def checked(asked: str | None, batch_norm: str, net: Network, device: str) -> str | None:
    """`asked` where the learner can train so; `batch_norm` is how it predicts, "" where `net` has none."""
    if asked is None:
        return None
    checks.choice("query_batch_norm", asked, MODES)
    if not batch_norm:
        raise ValueError(f'query_batch_norm="{asked}" must be left out: {net} has no batch norm.')
    if asked == "frozen" and device == "cuda":
        raise ValueError('query_batch_norm="frozen" must be trained with device="cpu" or "numpy". Name one of them.')
    return asked
