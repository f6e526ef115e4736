"""Bad input, on the device and at export: a status or an error that says what to do, and a state that stays whole."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.exports.artifact import identifier
from fastmeta.learning import checkpoint
from tests.exports.models import LABELS, MODELS, NUMPY, SMOOTH, fitted, images, mlp, small, trained, vectors
from tests.exports.toolchains import execute

ON_DEVICE = r"""
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "NAME.h"
static NAME_state s, old, clean;
static NAME_work w;
static float x[UPPER_SAMPLES * UPPER_INPUTS], out[UPPER_SAMPLES * UPPER_OUTPUTS];
static unsigned char bytes[UPPER_SAVED];
static int failures;
static void expect(const char *what, int holds) { if (!holds) { printf("%s\n", what); failures++; } }
static int kept(void) { return memcmp(&s, &old, sizeof s) == 0; }
static int reset_again(void) { return memcmp(&s, &clean, sizeof s) == 0; }
static void fill(float value) { for (int i = 0; i < UPPER_SAMPLES * UPPER_INPUTS; i++) x[i] = value; }
int main(void)
{
    const int n = UPPER_SAMPLES;
    YTYPE y[UPPER_SAMPLES * YEACH];
    for (int i = 0; i < n * YEACH; i++) y[i] = (YTYPE)(i % UPPER_OUTPUTS);
    for (int i = 0; i < n * UPPER_INPUTS; i++) x[i] = (float)(i * 37 % 101) / 101.0f;
    NAME_reset(&clean);
    NAME_reset(&s);
    expect("adapts", ADAPT(x, y, n, 3) == UPPER_OK);
    old = s;
    expect("no sample", ADAPT(x, y, 0, 3) == UPPER_BAD_COUNT && kept());
    expect("too many samples", ADAPT(x, y, n + 1, 3) == UPPER_BAD_COUNT && kept());
    expect("no query", NAME_predict(&s, &w, x, 0, out) == UPPER_BAD_COUNT);
    STEPS_AND_LABELS
    NAME_save(&s, bytes);
    expect("short", NAME_restore(&s, bytes, UPPER_SAVED - 1) == UPPER_BAD_BYTES && kept());
    for (unsigned i = 0; i < UPPER_SAVED; i++) {
        bytes[i] ^= 1 << i % 8;
        expect("a bit flipped", NAME_restore(&s, bytes, UPPER_SAVED) == UPPER_BAD_BYTES && kept());
        bytes[i] ^= 1 << i % 8;
    }
    NAME_reset(&s);
    expect("whole", NAME_restore(&s, bytes, UPPER_SAVED) == UPPER_OK && kept());
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e38f};
    for (int i = 0; i < 4; i++) {
        const float was = x[UPPER_INPUTS / 2];
        x[UPPER_INPUTS / 2] = bad[i];
        if (i < 3 || HAS_NORM) expect("x", ADAPT(x, y, n, 3) == UPPER_NOT_FINITE && reset_again());
        s = old;
        if (i < 3) expect("a query", NAME_predict(&s, &w, x, 1, out) == UPPER_NOT_FINITE);
        x[UPPER_INPUTS / 2] = was;
    }
    fill(3e38f);
    if (!BOUNDED) expect("all too large", ADAPT(x, y, n, 3) == UPPER_NOT_FINITE && reset_again());
    fill(0.5f);
    expect("constant samples", ADAPT(x, y, n, 3) == UPPER_OK);
    expect("one sample", ADAPT(x, y, 1, 3) == UPPER_OK);
    return failures;
}
"""
HAS_NORM = {
    "sine": 0,
    "digits": 1,
    "smooth": 0,
    "plus_plus": 1,
    "anil_int8": 1,
    "reptile": 0,
    "prototypes": 1,
    "cosine": 0,
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("name", HAS_NORM)
def test_on_the_device(artifact, name):
    folder, _ = artifact(name)
    steps, labels = "ways" not in MODELS[name][1], name != "sine"
    extra = ""
    if steps:
        extra += 'expect("steps", ADAPT(x, y, n, -1) == UPPER_BAD_COUNT && kept());\n'
        extra += 'expect("more steps", ADAPT(x, y, n, UPPER_MOST_STEPS + 1) == UPPER_BAD_COUNT && kept());\n'
    if labels:
        extra += 'y[1] = UPPER_OUTPUTS; expect("label", ADAPT(x, y, n, 3) == UPPER_BAD_LABEL && kept());\n'
        extra += 'y[1] = -1; expect("negative label", ADAPT(x, y, n, 3) == UPPER_BAD_LABEL && kept()); y[1] = 0;\n'
    else:
        extra += 'y[1] = NAN; expect("target", ADAPT(x, y, n, 3) == UPPER_NOT_FINITE && reset_again()); s = old;\n'
        extra += "y[1] = 0;\n"
    adapt = "NAME_adapt(&s, &w, a, b, n, k)" if steps else "NAME_adapt(&s, &w, a, b, n)"
    program = f"#define ADAPT(a, b, n, k) {adapt}\n" + ON_DEVICE.replace("STEPS_AND_LABELS", extra)
    values = {"YTYPE": "int32_t" if labels else "float", "YEACH": "1" if labels else "UPPER_OUTPUTS"}
    values |= {
        "HAS_NORM": str(HAS_NORM[name]),
        "BOUNDED": str(int(name in SMOOTH)),
        "UPPER": name.upper(),
        "NAME": name,
    }
    for word, value in values.items():
        program = program.replace(word, value)
    (folder / "bad.c").write_text(program)
    flags = "-std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Wextra -Werror"
    execute(f"gcc {flags} bad.c {name}.c -o bad -lm", folder)
    assert execute("./bad", folder) == ""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_rate_that_is_too_large_is_told(tmp_path):
    learner = fitted(fm.MAML(fm.MLP((1, 8, 1)), 1e30, 2, **NUMPY), fm.tasks.Sinusoid(), 0)
    with pytest.raises(ValueError, match="the learner diverges on samples"):
        fm.export(learner, tmp_path, samples=4, name="wild")
    learner = fitted(fm.MAML(fm.MLP((1, 8, 1)), 0.01, 2, **NUMPY), fm.tasks.Sinusoid(), 0)
    fm.export(learner, tmp_path, samples=4, name="wild")
    (tmp_path / "wild_run.c").write_text("""
#include "wild.h"
int main(void) {
    static wild_state s, clean; static wild_work w; float x[4] = {1e9f, 2e9f, -1e9f, 5.0f}, y[4] = {1, 2, 3, 4};
    wild_reset(&clean);
    const int told = wild_adapt(&s, &w, x, y, 4, 1000) == WILD_NOT_FINITE;
    for (int i = 0; i < WILD_ADAPTED; i++) if (s.theta[i] != clean.theta[i]) return 2;
    return !told;
}
""")
    execute("gcc -std=c99 wild.c wild_run.c -o run -lm", tmp_path)
    execute("./run", tmp_path)


# at export


def net_of(kind, *arguments, **options):
    return kind(*arguments, **options, **NUMPY)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: fm.MAML(mlp(), **NUMPY), LABELS, "MAML has learned nothing yet"),
        (lambda: trained("smooth"), {}, r"loss=None must be fm.CrossEntropy\(\) \(labels\) or fm.SquaredError\(\)"),
        (lambda: trained("smooth"), {"loss": "hinge"}, "loss='hinge' must be"),
        (
            lambda: fitted(net_of(fm.MAML, mlp(), 0.1, loss=fm.CrossEntropy()), vectors(), 0),
            {"loss": fm.SquaredError()},
            "must be that of the learner, CrossEntropy",
        ),
        (lambda: trained("smooth"), {"to": "tflite"} | LABELS, 'to="tflite" must be one of'),
        (lambda: trained("smooth"), {"store": "int4"} | LABELS, 'store="int4" must be one of'),
        (lambda: trained("smooth"), {"samples": 0} | LABELS, "samples=0 must be at least 1"),
        (lambda: trained("smooth"), {"ways": 3} | LABELS, "ways=3 must be left out: MAML"),
        (lambda: trained("smooth"), {"batch_norm": "frozen"} | LABELS, "has no batch norm"),
        (lambda: trained("digits"), {"batch_norm": "support"} | LABELS, '"support" must be "frozen" to be exported'),
        (lambda: trained("plus_plus"), {"batch_norm": "running"} | LABELS, "trained with running_statistics=True"),
        (lambda: trained("smooth"), {"ram": 1000} | LABELS, r"ram=1000 must be at least 2,008 bytes: a state of 656"),
        (lambda: trained("smooth"), {"samples": 10**9} | LABELS, "samples=1000000000 must be smaller"),
        (lambda: trained("prototypes"), {}, "ways=None must be the most classes of a task"),
        (lambda: trained("prototypes"), {"ways": 3, "batch_norm": "transductive"}, '"transductive" must be "frozen"'),
        (
            lambda: trained("prototypes"),
            {"ways": 3, "loss": fm.SquaredError()},
            "must be left out: ProtoNet classifies",
        ),
        (
            lambda: fitted(net_of(fm.Reptile, mlp(), 0.1), vectors()),
            LABELS,
            'inner_optimizer="adam" must be "sgd" for a Reptile',
        ),
        (
            lambda: fitted(net_of(fm.Transfer, small(20)), images(12, 3), 0),
            {"ways": 3},
            'head="linear" must be "centroid"',
        ),
        (
            lambda: fitted(net_of(fm.Transfer, small(20), "centroid", inductive=False), images(12, 3), 0),
            {"ways": 3},
            "inductive=False must be True",
        ),
    ],
)
def test_what_cannot_leave_says_why(make, options, message, tmp_path):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        fm.export(make(), tmp_path, **({"samples": 6} | options))
    assert list(tmp_path.iterdir()) == []


def test_unknown_learners_and_steps_of_ones_own(tmp_path):
    with pytest.raises(TypeError, match="must be a learner"):
        fm.export("run", tmp_path, samples=5)
    attributes = fm.ZeroShot(fm.MLP((6, 4)), fm.MLP((3, 4)), **NUMPY)
    attributes._training = trained("smooth").training
    with pytest.raises(ValueError, match="learner=ZeroShot must be a gradient learner, ProtoNet or Transfer"):
        fm.export(attributes, tmp_path, samples=5)

    class Own(fm.MAML):
        def descend(self, *arguments):
            return super().descend(*arguments)

    with pytest.raises(ValueError, match="it has a descend of its own"):
        fm.export(fitted(Own(mlp(), **NUMPY), vectors(), 0), tmp_path, samples=5, **LABELS)


def test_a_nan_is_named(tmp_path):
    learner = fitted(fm.MAML(mlp(), **NUMPY), vectors(), 0)
    theta = learner.theta.copy()
    theta[7] = np.nan
    learner._training = learner.training._replace(parameters={"theta": theta})
    with pytest.raises(ValueError, match="theta must be finite; 1 of"):
        fm.export(learner, tmp_path, samples=5, **LABELS)


@pytest.mark.parametrize("name", ["", "1st", "a-b", "int", "lambda", "math", "string", "a" * 41, "x_test", "é", "_x"])
def test_names_that_c_or_python_would_not_take(name):
    with pytest.raises(ValueError, match=r"must be a word of at most 40 letters"):
        identifier(name)


def test_files_that_exist_are_kept(tmp_path):
    (tmp_path / "net.c").write_text("mine")
    with pytest.raises(FileExistsError, match=r"must not hold net.c yet. Pass force=True \(--force\)"):
        fm.export(trained("smooth"), tmp_path, name="net", samples=6, **LABELS)
    assert (tmp_path / "net.c").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["net.c"]
    fm.export(trained("smooth"), tmp_path, name="net", samples=6, force=True, **LABELS)
    assert (tmp_path / "net.c").read_text() != "mine"
    assert not list(tmp_path.glob(".*"))


def test_nothing_that_a_user_wrote_leaves_the_comment(tmp_path):
    net = fm.Network([fm.Linear(3)], 6, "*/ int main(void) { return 1; } /*\n#error \\\n??/")
    fm.export(fitted(fm.MAML(net, **NUMPY), vectors(), 0), tmp_path, name="net", samples=6, **LABELS)
    head = (tmp_path / "net.h").read_text().splitlines()
    assert head[0].startswith("/* MAML(")
    assert head[0].index("*/") == len(head[0]) - 2
    assert head[1] == "#ifndef NET_H"
    assert "#error \\" not in (tmp_path / "net.c").read_text()


def test_a_checkpoint_that_was_cut_is_refused(tmp_path):
    trained("smooth").save(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-5])
    with pytest.raises(ValueError, match="cut short or damaged"):
        checkpoint.read(tmp_path / "cut.safetensors")
