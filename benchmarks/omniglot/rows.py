"""The rows: which algorithm, on which network, by which recipe, at which size; and what papers say of it.

Recipes are options of `fastmeta train omniglot`. They take fewer tasks an update and larger rates than the papers,
and more query drawings of each class: more updates in the same time. Those of MAML, of MAML++ and, on max-pools, of
FOMAML and iMAML in 5 ways with one shot were chosen among trials by scores on validation characters (trials.py), and
so were ANIL's steps of evaluation; FOMAML, Meta-SGD and ANIL there follow MAML's, other sizes of MAML++ its own. The
others are guesses.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

COSINE = "--final-learning-rate 1e-5"  # from the first rate, along half a cosine
NETWORKS = ("stride", "pool")
VALIDATIONS = 10  # scores on validation characters in the course of a training, of which the best is kept
SUPPORT_EPISODES = 200  # of the mode "support", which takes every query by itself

# The network of each paper's program: cbfinn/maml, supervised-reptile and imaml_dev use strides, the experiment files
# of MAML++ max-pools, ProtoNet pools. ANIL's and Meta-SGD's programs were not looked at: they and transfer take MAML's.
PAPERS = {"maml": "stride", "fomaml": "stride", "anil": "stride", "meta-sgd": "stride", "maml++": "pool"}
PAPERS |= {"reptile": "stride", "imaml": "stride", "protonet": "pool", "transfer": "stride"}

PUBLISHED = {
    "maml": {
        "5w1s": "98.7 ± 0.4; others 97-98.4",
        "5w5s": "99.9 ± 0.1; others 99.2-99.4",
        "20w1s": "95.8 ± 0.3; others 83-94.5",
        "20w5s": "98.9 ± 0.2; others 94-98",
    },
    "fomaml": {"5w1s": "98.3 ± 0.5", "5w5s": "99.2 ± 0.2", "20w1s": "89.4 ± 0.5", "20w5s": "97.9 ± 0.1"},
    "anil": {"20w1s": "96.2 ± 0.5", "20w5s": "98.0 ± 0.3"},
    "meta-sgd": {"5w1s": "99.53 ± 0.26", "5w5s": "99.93 ± 0.09"},
    "maml++": {"5w1s": "99.47", "5w5s": "99.85", "20w1s": "97.65; others 96.65 ± 0.06", "20w5s": "99.33"},
    "reptile": {"5w1s": "97.68 ± 0.04", "5w5s": "99.48 ± 0.06", "20w1s": "89.43 ± 0.14", "20w5s": "97.12 ± 0.32"},
    "imaml": {"5w1s": "99.16 ± 0.35", "5w5s": "99.67 ± 0.12", "20w1s": "94.46 ± 0.42", "20w5s": "98.69 ± 0.1"},
    "protonet": {
        "5w1s": "98.8; others 98.4",
        "5w5s": "99.7; others 99.6",
        "20w1s": "96.0; others 94.9",
        "20w5s": "98.9; others 98.6",
    },
}

_FAST = f"--learning-rate 3e-3 {COSINE}"
_HALF = f"--learning-rate 1.5e-3 {COSINE}"
_HEAD = "--inner-lr 0.5 --evaluation-steps 20"  # 5 steps in training: those of a head are nearly free
_ONE_STEP = "--inner-steps 1 --evaluation-steps 1 --inner-lr 0.1 --learning-rate 5e-3"  # falls to a hundredth
_IMPLICIT = (  # three steps in training for the paper's 16
    f"--learning-rate 2e-3 {COSINE} --inner-steps 3 --evaluation-steps 16"
    " --regularization 0.5 --cg-steps 2 --cg-damping 1.5"
)
RECIPES = {
    "maml": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 24000 {_HALF}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 12000 {_HALF}",
        "20w1s": f"--tasks-per-step 2 --queries 3 --iterations 60000 --inner-lr 0.4 {_FAST}",
        "20w5s": f"--tasks-per-step 2 --queries 3 --iterations 20000 --inner-lr 0.4 {_FAST}",
    },
    "fomaml": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 36000 {_HALF}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 9000 {_HALF}",
        "20w1s": f"--tasks-per-step 2 --queries 3 --iterations 12000 --inner-lr 0.4 {_FAST}",
        "20w5s": f"--tasks-per-step 2 --queries 3 --iterations 4000 --inner-lr 0.4 {_FAST}",
    },
    "anil": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 12000 {_HALF} {_HEAD}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 8000 {_HALF} {_HEAD}",
        "20w1s": f"--tasks-per-step 4 --queries 3 --iterations 8000 --learning-rate 5e-3 {COSINE} {_HEAD}",
        "20w5s": f"--tasks-per-step 4 --queries 3 --iterations 4000 --learning-rate 5e-3 {COSINE} {_HEAD}",
    },
    "meta-sgd": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 24000 {_HALF}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 12000 {_HALF}",
    },
    "maml++": {
        "5w1s": f"--tasks-per-step 4 --queries 3 --iterations 15000 {_ONE_STEP}",
        "5w5s": f"--tasks-per-step 4 --queries 3 --iterations 3500 {_ONE_STEP}",
        "20w1s": f"--tasks-per-step 2 --queries 3 --iterations 8000 {_ONE_STEP}",
        "20w5s": f"--tasks-per-step 2 --queries 3 --iterations 2000 {_ONE_STEP}",
    },
    "reptile": dict.fromkeys(("5w1s", "5w5s", "20w1s", "20w5s"), "--inner-lr 3e-3 --iterations 80000"),
    "imaml": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 20000 {_IMPLICIT}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 4000 {_IMPLICIT}",
    },
    "protonet": dict.fromkeys(("5w1s", "5w5s", "20w1s", "20w5s"), f"--iterations 5000 {COSINE}"),
    "transfer": dict.fromkeys(("5w1s", "5w5s", "20w1s", "20w5s"), f"--iterations 5000 {COSINE}"),
}
# On max-pools an update takes two to three times the time and brings more: fewer of them.
ON_POOLS = {
    "maml": {
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 5000 --inner-lr 0.1 {_HALF}",
        "20w1s": f"--tasks-per-step 2 --queries 3 --iterations 30000 --inner-steps 1 --inner-lr 0.2 {_FAST}"
        " --evaluation-steps 10",
    },
    "fomaml": {"5w1s": f"--tasks-per-step 4 --queries 5 --iterations 15000 --inner-lr 0.1 {_HALF}"},
    "reptile": dict.fromkeys(("5w1s", "5w5s"), "--inner-lr 3e-3 --iterations 8000"),
    "meta-sgd": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 10000 {_HALF}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 4000 {_HALF}",
    },
    "imaml": {
        "5w1s": f"--tasks-per-step 4 --queries 5 --iterations 16000 {_IMPLICIT}",
        "5w5s": f"--tasks-per-step 4 --queries 5 --iterations 3000 {_IMPLICIT}",
    },
}
# What a row of a training is scored with: options of `fastmeta evaluate`; those of the first are the training's own.
HEADS = {
    "transfer": {head: f"--head {head}" for head in ("linear", "cosine", "centroid")},
    "anil": {"": "", "shared": "--share-head"},
}
WITHOUT = {  # the switches of MAML++ that one inner step has, each off in turn, in 20 ways with one shot
    "learned-rates": "--no-learn-inner-lr",
    "step-norms": "--no-step-norms",
    "annealing": "--final-learning-rate 5e-3",
}
# Whose training does not depend on the ways that are scored, on the shots or on either is trained once for them.
ONCE = {
    "protonet": {"20w1s": "5w1s", "20w5s": "5w5s"},
    "transfer": dict.fromkeys(("5w5s", "20w1s", "20w5s"), "5w1s"),
    "reptile": {"5w5s": "5w1s", "20w5s": "20w1s"},  # arXiv 1803.02999, table 3: with 10 shots
}


class Row(NamedTuple):
    """An algorithm on a network at a size, such as 5w1s; transfer and ANIL with a head, MAML++ without a switch."""

    algorithm: str
    network: str
    size: str
    head: str = ""
    without: str = ""

    @property
    def name(self) -> str:
        """protonet-pool-20w5s, transfer-linear-stride-5w1s, maml++-without-annealing-pool-20w1s."""
        without = self.without and f"without-{self.without}"
        return "-".join(filter(None, (self.algorithm, self.head, without, self.network, self.size)))

    @property
    def training(self) -> str:
        """The name of its training, which several rows may share."""
        size = ONCE.get(self.algorithm, {}).get(self.size, self.size)
        return self._replace(head="", size=size).name

    @property
    def trains(self) -> bool:
        """Whether it is the first of the rows of its training."""
        return self.training == self._replace(head="").name and self.head == next(iter(_heads(self.algorithm)))

    @property
    def sizes(self) -> list[str]:
        """Its ways and shots, as options."""
        ways, shots = self.size.removesuffix("s").split("w")
        return ["--ways", ways, "--shots", shots]

    @property
    def evaluation(self) -> list[str]:
        """Its head, as options."""
        return _heads(self.algorithm)[self.head].split()

    def options(self, change: str = "") -> list[str]:
        """Of `fastmeta train omniglot`, for its training; the change overrides its recipe."""
        size = self.training.rpartition("-")[2]
        named = ["--algorithm", self.algorithm, "--downsample", self.network, *self._replace(size=size).sizes]
        recipes = RECIPES[self.algorithm] | (ON_POOLS.get(self.algorithm, {}) if self.network == "pool" else {})
        recipe = [*recipes[size].split(), *WITHOUT.get(self.without, "").split(), *change.split()]
        if self.algorithm in ONCE:  # one training for several sizes: its last iteration counts
            return named + recipe
        iterations = dict(itertools.pairwise(recipe))["--iterations"]  # of several the last, as on the command line
        every = int(iterations) // VALIDATIONS
        return [*named, *recipe, "--validate-every", str(every)]


def _heads(algorithm: str) -> dict[str, str]:
    return HEADS.get(algorithm, {"": ""})


ROWS = {
    row.name: row
    for algorithm, recipes in RECIPES.items()
    for network in NETWORKS
    for size in recipes
    for head in _heads(algorithm)
    for without in (["", *WITHOUT] if (algorithm, size) == ("maml++", "20w1s") else [""])
    for row in [Row(algorithm, network, size, head, without)]
}
USUAL = [name for name, row in ROWS.items() if row.network == PAPERS[row.algorithm] and not row.without]
