from fastmeta.rl.baseline import advantages
from fastmeta.rl.maml import MAML, Pretrained
from fastmeta.rl.models import PolicyModel
from fastmeta.rl.policies import categorical_policy, gaussian_policy
from fastmeta.rl.promp import ProMP
from fastmeta.rl.trajectories import Trajectories
from fastmeta.rl.trust_region import TrustRegion
from fastmeta.rl.worlds.bandit import Bandit
from fastmeta.rl.worlds.gymnasium import Gymnasium
from fastmeta.rl.worlds.halfcheetah import HalfCheetah
from fastmeta.rl.worlds.mdp import TabularMDP
from fastmeta.rl.worlds.navigation import Navigation2D
from fastmeta.rl.worlds.world import Informed, Noise, World, stream

__all__ = [
    "MAML",
    "Bandit",
    "Gymnasium",
    "HalfCheetah",
    "Informed",
    "Navigation2D",
    "Noise",
    "PolicyModel",
    "Pretrained",
    "ProMP",
    "TabularMDP",
    "Trajectories",
    "TrustRegion",
    "World",
    "advantages",
    "categorical_policy",
    "gaussian_policy",
    "stream",
]
