"""The pages of the site: their programs run, their tables are complete. `.ci/run` builds and looks at it."""

from __future__ import annotations

import ast
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
        assert target.startswith("https://") or "/pages/" not in target, f"{target} is not there in a clone"
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_api_has_a_page_for_each_room_and_every_name():
    pages = generated.rooms(ROOT)
    shown = re.findall(r"auto(?:class|function|data):: (\S+)", "".join(pages.values()))
    assert len(shown) == len(set(shown))
    modules = {"kernels", "lab", "tasks", *(name for name in fm.__all__ if isinstance(getattr(fm, name), type(fm)))}
    assert {f"fastmeta.{name}" for name in fm.__all__ if name not in modules} <= set(shown)
    things = {id(eval(name, {"fastmeta": fm})) for name in shown}
    assert {id(getattr(room, name)) for room in (fm.tasks, fm.lab) for name in room.__all__} <= things
    assert set(generated.ROOMS) <= pages.keys()
    assert "- `inner_lr_gradient`: inner_lr's shape; a float where that is a number\n" in pages["gradients"]
    assert (
        ".. autoclass:: fastmeta.MAML\n   :members: fit, adapt, evaluate, save, rates, history\n" in pages["algorithms"]
    )
    assert ".. autoclass:: fastmeta.ProtoNet\n   :members: fit, adapt, evaluate, save, history\n" in pages["algorithms"]


def variables_read(tree: ast.Module) -> set[str]:
    """Names that a module looks up in os.environ: said there, or in a constant of the module."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):  # what a loop runs over, or a name in a function is given
        if isinstance(node, ast.comprehension | ast.For) and isinstance(node.target, ast.Name):
            constants.setdefault(node.target.id, node.iter)

    def names(node: ast.expr) -> set[str]:
        if isinstance(node, ast.Constant):
            return {node.value}
        if isinstance(node, ast.Set | ast.Tuple):
            return {name for part in node.elts for name in names(part)}
        assert isinstance(node, ast.Name), f"{ast.unparse(node)}: say the variable's name where it is read"
        return names(constants[node.id])

    environ = lambda node: ast.unparse(node) in ("os.environ", "os.environ.keys()")  # noqa: E731
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv", "os.environ.pop"):
            found |= names(node.args[0])
        elif isinstance(node, ast.Subscript) and environ(node.value) and isinstance(node.ctx, ast.Load):
            found |= names(node.slice)
        elif isinstance(node, ast.Compare | ast.BinOp):
            right = node.right if isinstance(node, ast.BinOp) else node.comparators[0]
            found |= names(node.left) if environ(right) else set()
    return found


def variables_of_the_table() -> dict[str, str]:
    """Variable -> who reads it."""
    table = (DOCS / "reference" / "environment.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE)
    return {name: reader for shown, reader in rows for name in re.findall(r"`(\w+)`", shown)}


def test_the_table_of_environment_variables_has_those_that_are_read_and_no_others():
    sources = [*(ROOT / "fastmeta").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    read = {name for path in sources for name in variables_read(ast.parse(path.read_text("utf-8")))}
    table = variables_of_the_table()
    assert read == {name for name, reader in table.items() if reader == "fastmeta"}
    files = [path for folder in ("benchmarks", "examples", "tests") for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / ".ci" / "run", ROOT / ".ci" / "interpreters"]
    said = {name for path in files for name in re.findall(r"\bFASTMETA_[A-Z0-9_]+[A-Z]\b", path.read_text("utf-8"))}
    assert not {name for name in said if not any(known.startswith(name) for known in table)}  # one looks for a prefix
    assert {name for name, reader in table.items() if reader in ("benchmarks", "tests")} <= said


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("os.environ['A_B']", {"A_B"}),
        ("os.environ['A_B'] = '1'", set()),
        ("N = ('A', 'B')\nmax(os.environ.get(n) for n in N)", {"A", "B"}),
        ("'A' in os.environ and {'B', 'C'} & os.environ.keys()", {"A", "B", "C"}),
    ],
)
def test_variables_are_found_where_they_are_read(program, names):
    assert variables_read(ast.parse(program)) == names


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
