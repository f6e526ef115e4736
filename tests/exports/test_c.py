"""Exported C: right to rounding for every learner and network, clean for every tool, as large as it says."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmeta as fm
from fastmeta.exports import c_source, compiler
from fastmeta.exports.artifact import c_files
from fastmeta.exports.golden import golden
from fastmeta.exports.model import export_model
from fastmeta.exports.report import CODE, STACK, report
from tests.exports.models import LABELS, MODELS, NUMPY, SMOOTH, fitted, images, trained, vectors
from tests.exports.toolchains import M4F, execute
from tests.gradcheck import relative

STRICT = "-std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror"
needs_compiler = pytest.mark.skipif(compiler.compiler() is None, reason="no C compiler is installed")


def needs(*commands: str) -> pytest.MarkDecorator:
    missing = next((command for command in commands if shutil.which(command) is None), None)
    return pytest.mark.skipif(missing is not None, reason=f"{missing} is not installed")


def wrapped(folder: Path, name: str):
    """The model of NAME.py, with its library compiled."""
    compiler.library(folder, name)
    spec = importlib.util.spec_from_file_location(f"wrapper_of_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Model()


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_every_learner_agrees_with_float64(artifact, name):
    _, report = artifact(name)
    assert report.error is not None
    assert 0 <= report.error <= (1e-6 if name in SMOOTH else 1e-5)


def sources(name: str):
    """vectors or images, as the model takes."""
    net = trained(name).net
    if len(net.input_shape) == 3:
        return images(net.input_shape[0], 5 if net.input_shape[0] == 28 else 3)
    return vectors() if net.input_shape == (6,) else fm.tasks.Sinusoid(shots=10, queries=5)


@needs_compiler
@pytest.mark.parametrize("name", [name for name in MODELS if "int8" not in name])
def test_the_wrapper_predicts_what_the_learner_does(artifact, name):
    folder, _ = artifact(name)
    model, learner = wrapped(folder, name), trained(name)
    task = sources(name).sample(1, seed=5)
    x, y, queries = task.x_support[0], task.y_support[0], task.x_query[0]
    mode = MODELS[name][1].get("batch_norm", "frozen") if learner.batch_norm in ("transductive",) else None
    options = {} if mode is None else {"batch_norm": mode}
    if mode == "transductive":
        queries = queries[:6]
    if name.startswith("reptile"):  # written down for this many samples
        x, y = np.concatenate([x, x, x])[:9], np.concatenate([y, y, y])[:9]
    expected = learner.adapt(x, y, **options).outputs(queries)
    model.adapt(x.tolist(), y.tolist())
    found = np.array(model.outputs(np.ascontiguousarray(queries)))
    assert relative(found, expected) <= 2e-4  # a ReLU may fall to another side; float32 on both
    labels = y.dtype.kind == "i"
    assert model.predict(queries) == (found.argmax(axis=1) if labels else found).tolist()
    saved = model.save()
    model.reset()
    model.restore(saved)
    assert np.array(model.outputs(queries)).tobytes() == found.tobytes()
    assert 0 <= model.self_test() <= 1e-5


@needs_compiler
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
@pytest.mark.parametrize("name", ["sine", "rates", "plus_plus", "running", "implicit", "boil"])
def test_any_number_of_steps_and_samples(artifact, name, steps):
    folder, _ = artifact(name)
    model, learner = wrapped(folder, name), trained(name)
    task = sources(name).sample(1, seed=6)
    x, y = task.x_support[0][:2], task.y_support[0][:2]
    options = {"batch_norm": MODELS[name][1].get("batch_norm", "frozen")} if learner.batch_norm else {}
    model.adapt(x, y.tolist(), steps)
    expected = learner.adapt(x, y, steps, **options).outputs(task.x_query[0])
    assert relative(np.array(model.outputs(task.x_query[0])), expected) <= 2e-4


@needs_compiler
def test_prototypes_learn_a_sample_at_a_time(artifact, tmp_path):
    folder, _ = artifact("cosine")
    program = """
#include <stdio.h>
#include <string.h>
#include "cosine.h"
int main(void) {
    static cosine_state one, other; static cosine_work work; static float x[36];
    int32_t y[6] = {0, 1, 2, 0, 1, 2};
    for (int i = 0; i < 36; i++) x[i] = (float)(i * 7 % 11) / 11.0f;
    int bad = cosine_adapt(&one, &work, x, y, 6) != COSINE_OK;
    cosine_reset(&other);
    bad |= cosine_predict(&other, &work, x, 1, x) != COSINE_NOT_READY;
    for (int i = 0; i < 6; i++) bad |= cosine_add(&other, &work, x + 6 * i, y[i]) != COSINE_OK;
    bad |= cosine_add(&other, &work, x, 3) != COSINE_BAD_LABEL;
    printf("%d %d", bad, memcmp(&one, &other, sizeof one));
    return 0;
}
"""
    (tmp_path / "add.c").write_text(program)
    command = compiler.compiler()
    execute(f"{command} -std=c99 -I {folder} {folder / 'cosine.c'} add.c -o add -lm", tmp_path)
    assert execute("./add", tmp_path) == "0 0"


def layers() -> st.SearchStrategy:
    activation = st.sampled_from([fm.ReLU(), fm.Tanh(), fm.Softplus()])
    plain = st.one_of(
        st.builds(fm.Conv2d, st.integers(1, 5), st.just(3), st.integers(1, 2), st.integers(0, 2), st.booleans()),
        st.builds(fm.Conv2d, st.integers(1, 5), st.just(1), st.integers(1, 2), st.just(0), st.booleans()),
        st.builds(fm.Affine),
        st.builds(fm.BatchNorm),
        st.builds(fm.LayerNorm),
        activation,
        st.builds(fm.MaxPool2d, st.integers(1, 2)),
    )
    tail = st.sampled_from([[fm.Flatten()], [fm.GlobalMeanPool()]])
    last = st.lists(
        st.one_of(activation, st.builds(fm.Affine), st.builds(fm.LayerNorm), st.builds(fm.Linear, st.integers(2, 6))),
        max_size=3,
    )
    return st.tuples(st.lists(plain, max_size=5), tail, last).map(lambda p: [*p[0], *p[1], *p[2], fm.Linear(3)])


@needs_compiler
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    layers(),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(["float32", "int8"]),
    st.sampled_from([fm.MAML, fm.ANIL, fm.BOIL]),
)
def test_networks_of_any_layers(made, channels, classifies, store, kind):
    try:
        net = fm.Network(made, (6, 5, channels))
        learner = kind(net, 0.05, 2, **NUMPY)
    except ValueError:  # an image that became too small, a body without parameters
        return
    theta = (net.init(0) + 0.1 * np.random.default_rng(1).standard_normal(net.parameter_count)).astype(np.float32)
    learner.fit(images(12, 3), 0, theta=theta)
    loss = fm.CrossEntropy() if classifies else fm.SquaredError()
    model = export_model(learner, 4, loss=loss, store=store)
    error = compiler.self_test(c_files(model, "drawn", 4, report(model, "drawn", 4), golden(model)), "drawn")
    assert error is not None
    assert error <= 2e-5


# tools


@needs("gcc")
@pytest.mark.parametrize("name", MODELS)
def test_no_warning_of_any_compiler(artifact, name):
    folder, _ = artifact(name)
    for command in ("gcc", "clang"):
        if shutil.which(command):
            execute(f"{command} {STRICT} -O1 -c {name}.c -o strict.o", folder)
    execute(f"gcc {STRICT} -O1 -D{name.upper()}_NO_TEST -c {name}.c -o strict.o", folder)


@needs("gcc")
@pytest.mark.parametrize("name", MODELS)
def test_the_templates_are_c_by_themselves(name, tmp_path):
    """As they stand in the folder, with the features of a model."""
    made = export_model(trained(name), **{k: v for k, v in MODELS[name][1].items() if k != "queries"})
    found = [f"-DMODEL_WITH_{word}" for word in sorted(c_source.features(made))]
    parts = [*c_source.PARTS, made.kind, "save", "self_test"]
    (tmp_path / "all.c").write_text("".join(f'#include "{part}.c"\n' for part in parts))
    quiet = "-Wno-unused-const-variable -Wno-unused-variable"
    execute(f"gcc {STRICT} {quiet} -I {c_source.FOLDER} {' '.join(found)} -fsyntax-only all.c", tmp_path)
    execute(f"gcc {STRICT} -I {c_source.FOLDER} {' '.join(found)} -fsyntax-only {c_source.FOLDER / 'test.c'}", tmp_path)


@needs("cppcheck")
@pytest.mark.parametrize("name", ["sine", "digits_int8", "plus_plus", "reptile", "prototypes", "transfer"])
def test_cppcheck_finds_nothing(artifact, name):
    folder, _ = artifact(name)
    checks = "--enable=warning,performance,portability --error-exitcode=1 --std=c99 --quiet --inline-suppr"
    execute(f"cppcheck {checks} {name}.c", folder)


@needs("gcc")
@pytest.mark.parametrize(
    "name", ["sine", "digits_int8", "pooled", "running", "anil_int8", "reptile_norm", "prototypes", "transfer"]
)
def test_sanitizers_find_nothing(artifact, name):
    folder, _ = artifact(name)
    flags = "-std=c99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    execute(f"gcc {flags} {name}.c {name}_test.c -o sanitized -lm", folder)
    execute("./sanitized", folder)


@needs("gcc", "valgrind")
@pytest.mark.parametrize("name", ["sine", "anil_int8", "prototypes"])
def test_valgrind_finds_nothing(artifact, name):
    folder, _ = artifact(name)
    execute(f"gcc -std=c99 -g -O1 {name}.c {name}_test.c -o plain -lm", folder)
    execute("valgrind --quiet --error-exitcode=1 --leak-check=full ./plain", folder)


@needs("arm-none-eabi-gcc")
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_asked_of_libraries_and_the_stack_is_small(artifact, name):
    folder, _ = artifact(name)
    execute(f"arm-none-eabi-gcc -std=c99 {M4F} -mthumb -Os -fcallgraph-info=su -c {name}.c -o arm.o", folder)
    undefined = set(re.findall(r" U (\w+)", execute("arm-none-eabi-nm arm.o", folder)))
    assert undefined <= {"sqrtf", "memset", "memcpy"}
    graph = (folder / "arm.ci").read_text()
    assert graph.count(" bytes (static)") == graph.count(" bytes (") > 5
    assert 100 < deepest(graph) <= STACK


def deepest(graph: str) -> int:
    """Bytes of stack of the deepest chain of calls in what -fcallgraph-info=su writes; endless where one recurs."""
    frames = dict(re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes', graph))
    calls = set(re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', graph))

    def below(name: str) -> int:
        return int(frames.get(name, 0)) + max((below(called) for caller, called in calls if caller == name), default=0)

    return max(map(below, frames))


def sections(folder: Path, name: str) -> tuple[int, int]:
    """Bytes of code and of constants on a Cortex-M4F, without the self-test; nothing else is in the object."""
    execute(f"arm-none-eabi-gcc -std=c99 {M4F} -mthumb -Os -D{name.upper()}_NO_TEST -c {name}.c -o arm.o", folder)
    found = dict(re.findall(r"^(\.\w+)\S* +(\d+)", execute("arm-none-eabi-size -A arm.o", folder), re.M))
    assert found[".data"] == found[".bss"] == "0"
    return int(found[".text"]), int(found[".rodata"])


@needs("arm-none-eabi-gcc")
@pytest.mark.parametrize("name", MODELS)
def test_it_is_as_large_as_it_says(artifact, name):
    folder, report = artifact(name)
    code, constants = sections(folder, name)
    assert abs(constants - report.flash) <= 0.05 * report.flash
    assert code <= CODE
    program = f'#include "{name}.h"\n{name}_state state; {name}_work work;\n'
    (folder / "ram.c").write_text(program)
    execute("arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -c ram.c -o ram.o", folder)
    bss = int(execute("arm-none-eabi-size ram.o", folder).splitlines()[1].split()[2])
    assert bss == report.state + report.work


@needs("arm-none-eabi-gcc")
def test_the_examples_fit_where_they_should(artifact):
    limits = {"sine": (10_240, 14_336), "digits": (51_200, None), "digits_int8": (28_672, None)}
    for name, (most_flash, most_ram) in limits.items():
        folder, report = artifact(name)
        assert sum(sections(folder, name)) <= most_flash, name
        assert most_ram is None or report.state + report.work <= most_ram


def test_the_wrapper_needs_the_standard_library_only(artifact):
    folder, _ = artifact("sine")
    if compiler.compiler() is None:
        pytest.skip("no C compiler is installed")
    compiler.library(folder, "sine")
    program = (
        "import sine, sys; m = sine.Model(); m.adapt([0.1, 0.2], [0.0, 1.0]); "
        "print('numpy' in sys.modules, m.predict([0.5]))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("False [["), done.stderr


def test_tools_can_read_what_it_is(artifact):
    folder, report = artifact("digits")
    described = json.loads((folder / "digits.json").read_text())
    wanted = {
        "name": "digits",
        "kind": "steps",
        "batch_norm": "frozen",
        "state": report.state,
        "input_shape": [28, 28, 1],
    }
    assert wanted.items() <= described.items()
    assert described["sha256"] in (folder / "digits.h").read_text()


def test_a_float64_learner_says_how_far_it_moves():
    learner = fm.MAML(fm.MLP((6, 5, 3)), 0.1, 2, **NUMPY)
    fitted(learner, vectors(), 0)
    wide = fm.MAML(fm.MLP((6, 5, 3)), 0.1, 2, **NUMPY).fit(vectors(), 2, theta=learner.net.init(0, "float64"))
    made = fm.export(wide, "unused", samples=6, dry_run=True, **LABELS)
    assert 0 < made.moved < 1e-7
    assert "float64 parameters moved by at most" in str(made)
    assert made.files == ()
    assert not Path("unused").exists()


@needs_compiler
def test_transductive_predictions_of_one_sample(tmp_path):
    """The self-test asks for no more queries than one predict takes."""
    options = MODELS["transductive"][1] | {"queries": 1}
    report = fm.export(trained("transductive"), tmp_path, name="net", **options)
    assert 0 <= report.error <= 1e-5
    assert "NET_QUERIES = 1" in (tmp_path / "net.h").read_text()
