"""fastmeta: the device it takes by itself, or with the variant "numba" the compiled one."""

import sys

import numpy as np

import fastmeta as fm

variant, folder, out = sys.argv[1:]
learner = fm.load(f"{folder}/learner.safetensors", **({"device": "cpu"} if variant == "numba" else {}))
with np.load(f"{folder}/points.npz") as points:
    model = learner.adapt(points["x_support"], points["y_support"], inner_steps=5)
    np.save(out, model.predict(points["x_query"]))
