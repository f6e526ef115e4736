"""One table of inputs for values, gradients, backends and timing: networks, and tasks to try them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
from fastmeta.networks.network import Network
from fastmeta.tasks.episode import Batch


@dataclass(frozen=True)
class Case:
    """A network with T tasks of N support and M query samples; `make` draws theta and a batch for a seed."""

    name: str
    network: Network
    loss: str = "cross_entropy"  # or "squared_error"
    tasks: int = 3
    support: int = 5
    query: int = 7

    @property
    def smooth(self) -> bool:
        """Whether it has neither ReLU nor max-pool."""
        return not any(isinstance(layer, ReLU | MaxPool2d) for layer in self.network.layers)

    def make(self, dtype: str = "float64", seed: int = 0, weighted: bool = False) -> tuple[np.ndarray, Batch]:
        """theta (P,) and a batch, float32-representable, so that both dtypes see the same numbers."""
        rng = np.random.default_rng(seed)

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype("float32").astype(dtype)

        arrays = []
        for samples in (self.support, self.query):
            arrays.append(normal(self.tasks, samples, *self.network.input_shape))
            if self.loss == "squared_error":
                arrays.append(normal(self.tasks, samples, self.network.outputs))
            else:
                arrays.append(rng.integers(0, self.network.outputs, (self.tasks, samples)))
        weights = [normal(self.tasks, n) ** 2 if weighted else None for n in (self.support, self.query)]
        noise = 0.1 * normal(self.network.parameter_count)  # no bias is 0, no scale is 1
        theta = (self.network.init(seed) + noise).astype("float32").astype(dtype)
        return theta, Batch(*arrays, *weights)


def _case(name: str, layers: list, shape: tuple[int, ...], loss: str = "cross_entropy", **sizes: int) -> Case:
    return Case(name, Network(layers, shape), loss, **sizes)


CASES = (
    Case("mlp_sinusoid", MLP((1, 40, 40, 1)), "squared_error", support=10, query=10),
    Case("mlp_one_wide_tanh", MLP((1, 1, 1), "tanh"), "squared_error"),
    Case("mlp_odd_tanh", MLP((3, 5, 17, 2), "tanh"), support=4),
    Case("mlp_odd_softplus", MLP((5, 17, 3, 2), "softplus"), "squared_error", tasks=5),
    Case("mlp_63_relu", MLP((17, 63, 5), "relu"), query=3),
    Case("linear_only", MLP((3, 4)), tasks=1),
    Case("one_sample", MLP((3, 7, 2), "tanh"), support=1, query=1),
    Case("one_class", MLP((2, 5, 1), "tanh")),
    Case("conv4_stride", Conv4((28, 28, 1), 8, 5, "stride"), tasks=2, query=5),
    Case("conv4_pool", Conv4((21, 17, 3), 5, 3, "pool"), tasks=2, support=6, query=5),
    _case("kernel_1_plain", [Conv2d(3, 1, 1, 0), Tanh(), GlobalMeanPool(), Linear(2)], (5, 4, 3)),
    _case("kernel_1_stride_2", [Conv2d(5, 1, 2, 0, False), ReLU(), Flatten(), Linear(2)], (6, 5, 1)),
    _case("one_channel_padding_2", [Conv2d(4, 3, 2, 2), Tanh(), Flatten(), Linear(3)], (6, 9, 1)),
    _case("kernel_5_stride_3", [Conv2d(4, 5, 3, 2), Softplus(), Flatten(), Linear(3)], (10, 8, 1), support=3),
    _case("padding_0", [Conv2d(4, padding=0), Tanh(), Conv2d(2, 3, 2, 2), GlobalMeanPool()], (7, 8, 3)),
    _case("norm_bias_tanh", [Conv2d(3), BatchNorm(), Tanh(), GlobalMeanPool(), Linear(2)], (6, 6, 3)),
    _case("norm_on_vectors", [Linear(9), BatchNorm(), Softplus(), Linear(3)], (4,), support=8, query=9),
    _case(
        "norm_wide", [Linear(60), BatchNorm(), Softplus(), Linear(44), BatchNorm(), Tanh(), Linear(3)], (4,), support=9
    ),
    _case("norm_first", [BatchNorm(), Conv2d(3, stride=2), Tanh(), Flatten(), Linear(2)], (6, 6, 2)),
    _case(
        "norm_then_pool",
        [Conv2d(3), BatchNorm(), ReLU(), MaxPool2d(2), Conv2d(17), BatchNorm(), MaxPool2d(3), Flatten(), Linear(2)],
        (7, 6, 1),
        tasks=2,
        support=3,
        query=4,
    ),
    _case("norm_and_pool_first", [BatchNorm(), MaxPool2d(2), Conv2d(2), Tanh(), Flatten(), Linear(2)], (5, 4, 2)),
    _case("norm_last", [Linear(4), Tanh(), Linear(3), BatchNorm()], (4,), support=8, query=9),
    _case("affine_first", [Affine(), Conv2d(3, stride=2), Affine(), Tanh(), Flatten(), Linear(2)], (6, 6, 2)),
    _case("layer_norm_first", [LayerNorm(), Conv2d(3, stride=2), LayerNorm(), ReLU(), Flatten(), Linear(2)], (6, 5, 2)),
    _case("layer_norm_on_vectors", [Linear(9), LayerNorm(), Tanh(), Linear(3), ReLU(), LayerNorm()], (4,), support=3),
    _case("affine_on_vectors", [Linear(9), Affine(), Affine(), Softplus(), Linear(3), Affine()], (4,)),
    _case("append_last", [Linear(9), Tanh(), Linear(2), Append(2)], (4,), "squared_error"),
    _case("append_to_many", [Linear(5), ReLU(), Linear(17), ReLU(), Append(3)], (4,), support=3),
    _case(
        "append_inside",
        [Conv2d(2), Flatten(), Append(3), Softplus(), Linear(6), Append(1), ReLU(), Linear(2)],
        (3, 4, 1),
    ),
    _case("append_first", [Append(2), Tanh(), Linear(3)], (4,)),
    _case("pool_first", [MaxPool2d(2), Conv2d(3), Tanh(), Flatten(), Linear(2)], (7, 9, 3)),
    _case("pool_3_then_tanh", [Conv2d(3), MaxPool2d(3), Tanh(), Flatten(), Linear(2)], (8, 9, 2)),
    _case("relu_first", [ReLU(), Linear(6), Tanh(), Linear(2)], (5,), "squared_error"),
    _case("relu_after_pool", [Conv2d(4), MaxPool2d(2), ReLU(), Flatten(), Linear(2)], (6, 6, 1)),
    _case("relu_after_flatten", [Conv2d(2, stride=2), Flatten(), ReLU(), Linear(3)], (5, 7, 3)),
    _case("flatten_a_rectified_image", [Conv2d(3), ReLU(), Flatten(), Linear(6), ReLU(), Linear(2)], (5, 4, 2)),
    _case(
        "relu_before_everything",
        [
            Conv2d(3),
            ReLU(),
            BatchNorm(),
            ReLU(),
            Tanh(),
            Conv2d(4),
            ReLU(),
            Affine(),
            ReLU(),
            Softplus(),
            Conv2d(3),
            ReLU(),
            GlobalMeanPool(),
            Linear(2),
        ],
        (4, 3, 2),
        tasks=2,
        support=3,
        query=4,
    ),
    _case("flatten_first", [Flatten(), Linear(6), Softplus(), Linear(3)], (3, 4, 3)),
    _case("relu_last", [Linear(5), Tanh(), Linear(3), ReLU()], (4,), "squared_error"),
    _case("tanh_last", [Linear(5), ReLU(), Linear(3), Tanh()], (4,)),
    _case("rectified_image_output", [Conv2d(4), Softplus(), Conv2d(2), ReLU(), Flatten()], (4, 3, 1), "squared_error"),
    _case("image_output", [Conv2d(4), Softplus(), Conv2d(1), Flatten()], (5, 4, 1), "squared_error"),
    _case("mean_pool_only", [Conv2d(3, 5, 2, 1, False), BatchNorm(), Tanh(), GlobalMeanPool()], (9, 9, 1)),
    _case("wide_channels", [Conv2d(17), Tanh(), Conv2d(19, stride=2), Flatten(), Linear(5)], (5, 5, 2), tasks=2),
)
