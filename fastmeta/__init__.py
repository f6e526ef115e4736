"""fastmeta: meta-learning without a framework. Exact meta-gradients by hand, in NumPy and Numba."""

import fastmeta_kernels as kernels
from fastmeta import tasks
from fastmeta.algorithms.maml import FOMAML, MAML
from fastmeta.algorithms.protonet import ProtoNet
from fastmeta.algorithms.side_information import SideInformation
from fastmeta.algorithms.zero_shot import ZeroShot
from fastmeta.checks import DivergenceError
from fastmeta.gradients import (
    MetaGradient,
    adapt,
    check_meta_gradient,
    gradient,
    hvp,
    loss,
    meta_gradient,
    predict,
)
from fastmeta.layers import (
    BatchNorm,
    Conv2d,
    Flatten,
    GlobalMeanPool,
    Linear,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta.learner import load
from fastmeta.networks import MLP, Conv4, Network
from fastmeta.optimizers import SGD, Adam, CosineSchedule, StepSchedule
from fastmeta.prototypes import prototype_loss
from fastmeta.score import Score
from fastmeta.tasks import Batch

__version__ = "0.1.0"

__all__ = [
    "FOMAML",
    "MAML",
    "MLP",
    "SGD",
    "Adam",
    "Batch",
    "BatchNorm",
    "Conv2d",
    "Conv4",
    "CosineSchedule",
    "DivergenceError",
    "Flatten",
    "GlobalMeanPool",
    "Linear",
    "MaxPool2d",
    "MetaGradient",
    "Network",
    "ProtoNet",
    "ReLU",
    "Score",
    "SideInformation",
    "Softplus",
    "StepSchedule",
    "Tanh",
    "ZeroShot",
    "adapt",
    "check_meta_gradient",
    "gradient",
    "hvp",
    "kernels",
    "load",
    "loss",
    "meta_gradient",
    "predict",
    "prototype_loss",
    "tasks",
]
