"""WebAssembly: the bits of C, nothing imported; a page that learns drawings in a real browser without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import fastmeta as fm
from benchmarks.browser import DRIVER, browser
from tests.exports.models import LABELS, MODELS, trained
from tests.exports.toolchains import TOOLCHAINS, execute, result

CLANG = shutil.which("clang") and shutil.which("wasm-ld")
RUNNER = Path(__file__).with_name("run_wasm.mjs")
needs_clang = pytest.mark.skipif(not CLANG, reason="clang or wasm-ld is not installed")
HERE = next(toolchain for toolchain in TOOLCHAINS if toolchain.name == "gcc -O2")


def exported(name: str, folder: Path) -> fm.ExportReport:
    return fm.export(trained(name), folder, to="wasm", name=name, **MODELS[name][1])


@needs_clang
@pytest.mark.skipif(shutil.which("node") is None or HERE.missing is not None, reason="node or gcc is not installed")
@pytest.mark.parametrize("name", ["sine", "digits", "digits_int8", "plus_plus", "softened", "anil_int8", "prototypes"])
def test_the_bits_are_those_of_c(artifact, name, tmp_path):
    exported(name, tmp_path)
    folder, _ = artifact(name)
    expected = result(HERE.output(folder, f"{name}.c", f"{name}_test.c"))
    assert result(execute(f"node {RUNNER} {name}", tmp_path)) == expected


@needs_clang
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_it_imports_nothing(tmp_path):
    exported("cosine", tmp_path)
    program = (
        "const m = new WebAssembly.Module(require('fs').readFileSync('cosine.wasm'));"
        "console.log(JSON.stringify([WebAssembly.Module.imports(m), WebAssembly.Module.exports(m).map(e => e.name)]))"
    )
    done = subprocess.run(["node", "-e", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    imports, exports = json.loads(done.stdout)
    assert imports == []
    wanted = {
        f"cosine_{word}" for word in ("reset", "adapt", "add", "predict", "save", "restore", "self_test", "sizes")
    }
    assert wanted | {"memory", "__heap_base"} == set(exports)


@needs_clang
def test_the_page_is_small_and_loads_nothing(tmp_path):
    report = exported("digits", tmp_path)
    assert [path.name for path in report.files] == ["digits.wasm", "digits.html", "digits.json"]
    text = (tmp_path / "digits.html").read_text()
    assert len(text) <= 70 * 1024
    assert not re.search(r"https?:|src=|href=|fetch\(|import ", text)
    assert "@" not in re.sub(r"@media|@keyframes", "", text)


@needs_clang
def test_a_page_is_for_drawings_only(tmp_path):
    report = fm.export(trained("smooth"), tmp_path, to="wasm", name="net", samples=6, **LABELS)
    assert [path.name for path in report.files] == ["net.wasm", "net.json"]


@needs_clang
@pytest.mark.skipif(DRIVER is None, reason="chromedriver is not installed")
def test_in_a_browser(tmp_path):
    """Five digits drawn with the mouse and learned, a drawing answered; nothing can be reached from the page."""
    exported("digits", tmp_path)
    with browser() as page:
        page.go((tmp_path / "digits.html").as_uri())
        end = time.monotonic() + 60
        while page.script("return document.body.dataset.ready") != "yes":
            assert time.monotonic() < end
            time.sleep(0.1)
        assert 0 <= float(page.script("return document.body.dataset.test")) <= 1e-5
        for number, strokes in enumerate(page.script("return DIGITS"), 1):
            points = list(zip(strokes[0][::2], strokes[0][1::2], strict=True))
            page.draw(f"#classes figure:nth-child({number}) canvas", points)
        page.script("document.getElementById('learn').click()")
        assert page.script("return document.body.dataset.status") == "0"
        assert float(page.script("return document.body.dataset.ms")) >= 0
        page.draw("#query canvas", points)
        assert page.script("return document.body.dataset.answer") in "01234"
        assert page.script("return document.querySelectorAll('.best').length") == 1
