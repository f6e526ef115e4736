"""fastmeta: meta-learning without a framework. Exact meta-gradients by hand, in NumPy and Numba."""

from fastmeta.late import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "fastmeta.algorithms.anil": ("ANIL", "BOIL"),
        "fastmeta.algorithms.imaml": ("iMAML",),
        "fastmeta.algorithms.maml": ("FOMAML", "MAML"),
        "fastmeta.algorithms.maml_plus_plus": ("MAMLPlusPlus",),
        "fastmeta.algorithms.meta_sgd": ("MetaSGD",),
        "fastmeta.algorithms.protonet": ("ProtoNet",),
        "fastmeta.algorithms.reptile": ("Reptile",),
        "fastmeta.algorithms.side_information": ("SideInformation",),
        "fastmeta.algorithms.transfer": ("Transfer",),
        "fastmeta.algorithms.zero_shot": ("ZeroShot",),
        "fastmeta.checks": ("DivergenceError",),
        "fastmeta.comparison": ("Difference", "compare"),
        "fastmeta.gradient_check": ("check_meta_gradient",),
        "fastmeta.gradients": (
            "MetaGradient",
            "adapt",
            "gradient",
            "hvp",
            "loss",
            "meta_gradient",
            "predict",
        ),
        "fastmeta.layers": (
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
        "fastmeta.learner": ("load",),
        "fastmeta.networks": ("MLP", "Conv4", "Network"),
        "fastmeta.optimizers": ("SGD", "Adam", "CosineSchedule", "LinearSchedule", "StepSchedule"),
        "fastmeta.prototypes": ("prototype_loss",),
        "fastmeta.score": ("Score",),
        "fastmeta.tasks": ("tasks",),
        "fastmeta.tasks.episode": ("Batch",),
        "fastmeta_kernels": ("kernels",),
    },
)
__version__ = "0.1.0"
