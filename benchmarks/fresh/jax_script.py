"""JAX: one jit of everything; "disk-cache" keeps compiled programs, "eager" compiles operation by operation."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

variant, folder, out = sys.argv[1:]
if variant == "disk-cache":
    jax.config.update("jax_compilation_cache_dir", f"{folder}/jax")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
with np.load(f"{folder}/weights.npz") as file:
    p = [file[f"linear{i}_{name}"] for i in (1, 2, 3) for name in ("weight", "bias")]
with np.load(f"{folder}/points.npz") as points:
    x, y, x_query = points["x_support"], points["y_support"], points["x_query"]
jax.config.update("jax_enable_x64", x.dtype == np.float64)


def forward(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]) @ p[4] + p[5]


def adapt_and_predict(p, x, y, x_query):
    for _ in range(5):
        gradient = jax.grad(lambda p: ((forward(p, x) - y) ** 2).mean())(p)
        p = [block - 0.01 * g for block, g in zip(p, gradient, strict=True)]
    return forward(p, x_query)


if variant == "eager":
    p, x, y, x_query = jax.tree.map(jnp.asarray, (p, x, y, x_query))
np.save(out, np.asarray((adapt_and_predict if variant == "eager" else jax.jit(adapt_and_predict))(p, x, y, x_query)))
