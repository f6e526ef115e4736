"""The pages of the site: their programs run, their tables are complete. `.ci/run` builds and looks at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastmeta as fm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(path for path in DOCS.rglob("*.md") if not {"pages", "_build"} & set(path.relative_to(DOCS).parts))
WITH_PROGRAMS = [
    path
    for folder in ("start", "tutorials", "howto", "coming_from")
    for path in sorted((DOCS / folder).glob("*.md"))
    if "```python\n" in path.read_text("utf-8") and path.name != "data.md"  # test_readme.py looks at what that prints
]
sys.path.insert(0, str(DOCS))
generated = __import__("generated")
sys.path.remove(str(DOCS))


@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=lambda path: str(path.relative_to(DOCS)))
def test_the_programs_of_a_page_run_in_their_order(path, tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
        "FASTMETA_CACHE": str(tmp_path / "cache"),
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_folder_with_programs_is_looked_at():
    assert len(WITH_PROGRAMS) >= 9


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(DOCS)))
def test_links_of_a_page_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8")):
        of_the_site = path.parent / re.sub(r"(?<=pages/)command_line.md", "../index.md", target)
        repository = ROOT / re.sub(r"^(\.\./)*pages/", "", target)
        assert target.startswith("https://") or of_the_site.exists() or repository.is_file(), target


def test_the_api_has_a_page_for_each_room_and_every_name():
    pages = generated.rooms(ROOT)
    shown = re.findall(r"auto(?:class|function|data):: (\S+)", "".join(pages.values()))
    assert len(shown) == len(set(shown))
    modules = {"kernels", "lab", "tasks", *(name for name in fm.__all__ if isinstance(getattr(fm, name), type(fm)))}
    assert {f"fastmeta.{name}" for name in fm.__all__ if name not in modules} <= set(shown)
    things = {id(eval(name, {"fastmeta": fm})) for name in shown}
    assert {id(getattr(room, name)) for room in (fm.tasks, fm.lab) for name in room.__all__} <= things
    assert set(generated.ROOMS) <= pages.keys()


def test_every_environment_variable_is_in_the_table():
    sources = [*(ROOT / "fastmeta").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    used = {name for path in sources for name in re.findall(r'"(FASTMETA_[A-Z_]+)"', path.read_text("utf-8"))}
    table = (DOCS / "reference" / "environment.md").read_text("utf-8")
    assert used
    assert used <= set(re.findall(r"`(FASTMETA_[A-Z_]+)`", table))


def test_links_between_folders_lead_to_pages_of_the_site(tmp_path):
    docs = tmp_path / "docs"
    (docs / "pages" / "kernels").mkdir(parents=True)
    (tmp_path / "kernels").mkdir()
    (docs / "pages" / "kernels" / "README.md").touch()
    text = "[a](../kernels/README.md#b) [c](https://x.y) ![d](../e.png) [f](../kernels)\n```\n[g](../h.md)\n```\n"
    expected = "[a](pages/kernels/README.md#b) [c](https://x.y) ![d](../e.png) f (`kernels`)\n```\n[g](../h.md)\n```\n"
    assert generated.linked(docs, "index", text) == expected
    assert generated.linked(docs, "pages/kernels/README", "![d](../e.png)") == "![d](../../../e.png)"


def test_a_new_page_is_listed_and_takes_no_name_of_sphinx():
    index = (DOCS / "index.md").read_text("utf-8")
    found = generated.subjects(DOCS, index)
    assert "laboratory" in found
    assert not {"index", "algorithms", "architecture", "problems"} & set(found)
    assert index.count("SUBJECTS") == 1
    assert not {"search", "genindex", "py-modindex"} & {path.stem for path in DOCS.glob("*.md")}


def test_docstrings_become_plain_paragraphs():
    lines = [
        "A map `x * y` of a|b, name_ and *args.",
        "",
        "more",
        "  text:",
        "",
        "- one",
        "  two",
        "- three",
        "",
        ">>> 1",
        "1",
    ]
    generated.marked(lines)
    text = "\n".join(lines)
    assert text.startswith(r"A map ``x * y`` of a\|b, name\_ and \*args.")
    assert "\n\nmore text:\n\n- one two\n\n- three\n\n>>> 1\n1" in text
