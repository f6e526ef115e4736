"""The programs that are compared, and the variants of each that are tried on a kind of workload.

A program is a module `<name>_peer.py` with

    versions() -> {"package": "version"}
    build(workload, arrays, dtype, variant) -> {part: call}      call() returns when its result is complete
    vector(workload, result) -> (P,)                             the gradient (or H v) in the order of theta

It is imported by `benchmarks.worker` alone, in a process of its own: a missing package is a line that says so.
"""

FASTMETA = "fastmeta"
REFERENCE = "numpy"  # what the others are compared with, in float64

_JAX_HVP = ("forward-over-reverse", "reverse-over-reverse")
_TORCH_HVP = (*_JAX_HVP, "inductor")

_KINDS = ("mlp", "conv", "hvp-mlp", "hvp-conv")

# peer -> kind of workload -> variants
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    FASTMETA: dict.fromkeys(_KINDS, ("",)),
    "numpy": dict.fromkeys(_KINDS, ("reference",)),
    "jax": {
        "mlp": ("vmap", "vmap-of-gradients"),
        "conv": ("map-patches", "map-convolution", "vmap-patches"),
        "hvp-mlp": _JAX_HVP,
        "hvp-conv": tuple(f"{order}-{how}" for order in _JAX_HVP for how in ("patches", "convolution")),
    },
    "torch": {
        "mlp": ("inductor", "func", "eager"),
        "conv": ("eager", "func"),
        "hvp-mlp": _TORCH_HVP,
        "hvp-conv": _TORCH_HVP,
    },
}
PEERS = tuple(name for name in VARIANTS if name != FASTMETA)
