"""`load`: the learner or the model that was saved, of its own class."""

from __future__ import annotations

import os
from typing import Any

from fastmeta import checks
from fastmeta.device import DEVICES
from fastmeta.learning import archive
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning.archive import Archive, refused
from fastmeta.learning.learner import Learner
from fastmeta.networks import losses
from fastmeta.networks.losses import Loss
from fastmeta.networks.network import Network


def load(path: str | os.PathLike[str], device: str | None = None) -> Any:
    """The learner that `save` or a checkpoint wrote, ready to adapt and evaluate; or the model that a model's `save`
    wrote, ready to predict. Either is of its own class.

    device: by default "cpu"; but a gradient learner adapts a small network without convolutions with NumPy, and a
    small model predicts with it, as long as the process has not loaded Numba, which takes longer than such work; the
    results differ by rounding. A program that is to start at once and has convolutions asks for device="numpy".
    Raises FileNotFoundError; ValueError where the file is damaged, edited, foreign, of a later format, or
    names an algorithm that this fastmeta does not have.
    """
    if device is not None:
        checks.choice("device", device, DEVICES)
    with archive.opened(path) as file:
        with refused(path):
            description = file.description()
            algorithm = description["algorithm"] if "model" in description else None
        return _learner(file, device) if algorithm is None else _model(file, algorithm, device)


def _model(file: Archive, algorithm: str, device: str | None) -> Any:
    from fastmeta.learning import model_file
    from fastmeta.learning.adapted_model import AdaptedModel

    with refused(file.path):
        checks.choice("algorithm", algorithm, _algorithms(algorithm))  # which defines the model's class
    return model_file.read(file, AdaptedModel.kinds, device)


def _learner(file: Archive, device: str | None) -> Learner:
    """The learner that a file describes, which has the shapes of the file's arrays before it has the arrays."""
    opened = checkpoints.outlined(file)
    saved = opened.outline
    with refused(file.path):
        own = "Import the module that defines it before you load it, where it is your own."
        kind = checks.choice("algorithm", saved.algorithm, _algorithms(saved.algorithm), own)
        made = Learner.algorithms[kind]
        arguments = {n: _described(v) if isinstance(v, dict) else v for n, v in saved.hyper_parameters.items()}
        learner = made(saved.net, **arguments, device=device or "cpu")
        learner.any_device = device is None
        checkpoints.check_shapes(saved.training, learner.initial_parameters(saved.training.parameters["theta"]))
    learner.restore(opened.read())
    return learner


def _algorithms(name: str) -> dict[str, type[Learner]]:
    """Algorithms by their names: that of this name, or, where there is none, all."""
    if name not in Learner.algorithms:
        import fastmeta

        family, _, own = name.rpartition(".")
        home = fastmeta.rl if family == "rl" else fastmeta
        if own in home.__all__:
            getattr(home, own)
        else:
            for every in (fastmeta, fastmeta.rl):
                for known in every.__all__:
                    getattr(every, known)
    return Learner.algorithms


def _described(value: dict[str, Any]) -> Network | Loss:
    return losses.from_dict(value) if "loss" in value else Network.from_dict(value)
