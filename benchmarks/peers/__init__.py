"""The programs that are compared, and the variants of each that are tried on a kind of workload.

A program is a module `<name>_peer.py` with

    versions() -> {"package": "version"}
    build(workload, arrays, dtype, variant, device) -> {part: call}   call() returns when its result is complete
    vector(workload, result) -> (P,)                                  the gradient (or H v) in the order of theta
    event_seconds(call) -> seconds                                    of the GPU's clock, where there is one
    device_mb() -> MB                                                 highest use of GPU memory, likewise

It is imported by `benchmarks.worker` alone, in a process of its own: a missing package is a line that says so.
A prototype head has no theta; its result is the gradients by x_support and then x_query, each episode by its own loss.
A program without variants for a kind of workload has no such row. Of a fresh process a variant is a script of
`benchmarks.fresh`.

Left out, because they were slower than their peer's best in every committed run that has them (`results/`): in JAX, its
own convolution under a map over tasks (7 to 24 times) and patches under a vmap over tasks (1.5 to 3.3 times), and its
own convolution differentiated twice in reverse (4 to 7 times).
"""

FASTMETA = "fastmeta"
REFERENCE = "numpy"  # what the others are compared with, in float64

_KINDS = ("mlp", "updates", "conv", "anil", "protonet", "head", "hvp-mlp", "hvp-conv")
_ORDERS = ("forward-over-reverse", "reverse-over-reverse")
_CONVOLUTIONS = ("patches", "convolution")
_EAGER_CONVOLUTIONS = ("eager", "eager-native-norm", "eager-channels-last")

# peer -> kind of workload -> variants
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    FASTMETA: dict.fromkeys(_KINDS, ("",)) | {"process": ("", "numba")},
    "jax": {
        "mlp": ("vmap", "vmap-of-gradients"),
        "updates": ("scan",),
        "conv": ("map-patches",),
        "anil": ("map-patches",),
        "protonet": _CONVOLUTIONS,
        "head": ("jit",),
        "hvp-mlp": _ORDERS,
        "hvp-conv": (*(f"{order}-patches" for order in _ORDERS), "forward-over-reverse-convolution"),
        "process": ("disk-cache", "jit", "eager"),
    },
    "inductor": {
        "mlp": ("vmap",),
        "conv": ("loop", "loop-patches", "loop-channels-last"),
        "anil": ("loop", "loop-patches", "loop-channels-last"),
        "protonet": ("convolution", "channels-last"),
        "head": ("compiled",),
        "hvp-mlp": _ORDERS,
        "hvp-conv": _ORDERS,
    },
    "torch": {
        "mlp": ("func", "eager"),
        "conv": (*_EAGER_CONVOLUTIONS, "func"),
        "anil": _EAGER_CONVOLUTIONS,
        "protonet": _EAGER_CONVOLUTIONS,
        "head": ("eager",),
        "hvp-mlp": _ORDERS,
        "hvp-conv": (*_ORDERS, "reverse-over-reverse-native-norm"),
        "process": ("eager",),
    },
    "learn2learn": {"mlp": ("MAML",), "conv": ("MAML",), "anil": ("MAML of the head",), "process": ("MAML",)},
    "numpy": dict.fromkeys(_KINDS, ("reference",)) | {"process": ("by-hand",)},
}
PEERS = tuple(name for name in VARIANTS if name != FASTMETA)
