"""fastmeta: meta-learning without a framework. Exact meta-gradients by hand, in NumPy and Numba."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "fastmeta.algorithms.anil": ("ANIL", "BOIL"),
        "fastmeta.algorithms.imaml": ("iMAML",),
        "fastmeta.algorithms.maml": ("FOMAML", "MAML"),
        "fastmeta.algorithms.maml_plus_plus.maml_plus_plus": ("MAMLPlusPlus",),
        "fastmeta.algorithms.meta_sgd": ("MetaSGD",),
        "fastmeta.algorithms.protonet": ("ProtoNet",),
        "fastmeta.algorithms.reptile": ("Reptile",),
        "fastmeta.algorithms.side_information": ("SideInformation",),
        "fastmeta.algorithms.transfer.transfer": ("Transfer",),
        "fastmeta.algorithms.zero_shot": ("ZeroShot",),
        "fastmeta.checks": ("DivergenceError",),
        "fastmeta.scores.comparison": ("Difference", "compare"),
        "fastmeta.lab.central_differences": ("check_meta_gradient",),
        "fastmeta.gradients.functions": (
            "MetaGradient",
            "adapt",
            "gradient",
            "hvp",
            "loss",
            "meta_gradient",
            "predict",
        ),
        "fastmeta.networks.layers": (
            "Affine",
            "BatchNorm",
            "Conv2d",
            "Flatten",
            "GlobalMeanPool",
            "Linear",
            "MaxPool2d",
            "ReLU",
            "Softplus",
            "Tanh",
        ),
        "fastmeta.learning.learner": ("load",),
        "fastmeta.networks.network": ("MLP", "Conv4", "Network"),
        "fastmeta.learning.optimizers": ("SGD", "Adam", "CosineSchedule", "LinearSchedule", "StepSchedule"),
        "fastmeta.gradients.prototypes": ("prototype_loss",),
        "fastmeta.scores.score": ("Score",),
        "fastmeta.tasks": ("tasks",),
        "fastmeta.tasks.episode": ("Batch",),
        "fastmeta_kernels": ("kernels",),
    },
)
__version__ = "0.1.0"
