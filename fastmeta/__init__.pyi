import fastmeta.lab as lab
import fastmeta.rl as rl
import fastmeta.tasks as tasks
import fastmeta_kernels as kernels
from fastmeta.algorithms.anil import ANIL, BOIL
from fastmeta.algorithms.architecture.architecture_maml import ArchitectureMAML
from fastmeta.algorithms.imaml import iMAML
from fastmeta.algorithms.maml import FOMAML, MAML
from fastmeta.algorithms.maml_plus_plus.maml_plus_plus import MAMLPlusPlus
from fastmeta.algorithms.meta_sgd import MetaSGD
from fastmeta.algorithms.protonet import ProtoNet
from fastmeta.algorithms.reptile import Reptile
from fastmeta.algorithms.side_information import SideInformation
from fastmeta.algorithms.transfer.transfer import Transfer
from fastmeta.algorithms.zero_shot import ZeroShot
from fastmeta.checks import DivergenceError
from fastmeta.exports.artifact import export
from fastmeta.exports.report import ExportReport
from fastmeta.gradients.functions import MetaGradient, adapt, gradient, hvp, loss, meta_gradient
from fastmeta.gradients.outputs import fisher, pullback
from fastmeta.gradients.prototypes import prototype_loss
from fastmeta.lab.central_differences import check_meta_gradient
from fastmeta.learning.adapted_model import AdaptedModel
from fastmeta.learning.gradient_learner import GradientLearner
from fastmeta.learning.learner import Learner
from fastmeta.learning.loading import load
from fastmeta.learning.optimizers import SGD, Adam
from fastmeta.learning.schedules import CosineSchedule, LinearSchedule, StepSchedule
from fastmeta.networks.architectures import MLP, Conv4
from fastmeta.networks.layers import (
    Affine,
    Append,
    BatchNorm,
    Conv2d,
    Flatten,
    GlobalMeanPool,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Softplus,
    Tanh,
)
from fastmeta.networks.losses import CrossEntropy, Huber, PolicyLoss, SquaredError
from fastmeta.networks.network import Network, predict
from fastmeta.networks.state_dicts import from_state_dict, to_state_dict
from fastmeta.scores.comparison import Difference, compare
from fastmeta.scores.score import Score
from fastmeta.tasks.episode import Batch

__version__: str

__all__ = [
    "ANIL",
    "BOIL",
    "FOMAML",
    "MAML",
    "MLP",
    "SGD",
    "Adam",
    "AdaptedModel",
    "Affine",
    "Append",
    "ArchitectureMAML",
    "Batch",
    "BatchNorm",
    "Conv2d",
    "Conv4",
    "CosineSchedule",
    "CrossEntropy",
    "Difference",
    "DivergenceError",
    "ExportReport",
    "Flatten",
    "GlobalMeanPool",
    "GradientLearner",
    "Huber",
    "LayerNorm",
    "Learner",
    "Linear",
    "LinearSchedule",
    "MAMLPlusPlus",
    "MaxPool2d",
    "MetaGradient",
    "MetaSGD",
    "Network",
    "PolicyLoss",
    "ProtoNet",
    "ReLU",
    "Reptile",
    "Score",
    "SideInformation",
    "Softplus",
    "SquaredError",
    "StepSchedule",
    "Tanh",
    "Transfer",
    "ZeroShot",
    "adapt",
    "check_meta_gradient",
    "compare",
    "export",
    "fisher",
    "from_state_dict",
    "gradient",
    "hvp",
    "iMAML",
    "kernels",
    "lab",
    "load",
    "loss",
    "meta_gradient",
    "predict",
    "prototype_loss",
    "pullback",
    "rl",
    "tasks",
    "to_state_dict",
]
