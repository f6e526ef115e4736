"""Pages of the site that nobody writes: the API by room, the command line, and pages of other folders.

They are written into docs/pages, which git ignores, and are read from there.
"""

from __future__ import annotations

import ast
import os
import re
from collections import defaultdict
from pathlib import Path

BROUGHT = (  # pages that stand beside what they describe
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "kernels/README.md",
    "kernels/fastmeta_kernels/cpu/README.md",
    "kernels/fastmeta_kernels/cuda/README.md",
    "kernels/mathematics.md",
    "benchmarks/README.md",
    "benchmarks/results/README.md",
)
ROOMS = {  # the folder or file of fastmeta in which a name lives, and its page
    "algorithms": "Learners",
    "learning": "Training: learners' base, optimisers, schedules",
    "gradients": "The functional layer",
    "networks": "Networks, layers and losses",
    "tasks": "Tasks",
    "scores": "Scores",
    "exports": "Exports",
    "lab": "The laboratory",
    "rl": "Reinforcement learning",
    "checks": "Errors",
}
LEARNER_MEMBERS = "fit, adapt, evaluate, save, rates, history"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")


def write(docs: Path) -> None:
    """All pages that are made, where they differ from what is there."""
    root, pages = docs.parent, docs / "pages"
    texts = {name: (root / name).read_text("utf-8") for name in [*BROUGHT, *_examples(root)]}
    texts |= {f"api/{room}.md": text for room, text in rooms(root).items()}
    texts["command_line.md"] = command_line()
    for name, text in texts.items():
        path = pages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for path in pages.rglob("*.md"):
        if path.relative_to(pages).as_posix() not in texts:
            path.unlink()


def _examples(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in (root / "examples").glob("*/README.md"))


def rooms(root: Path) -> dict[str, str]:
    """A page for each room with all of its public names, from the stubs that type checkers read."""
    names: dict[str, list[str]] = defaultdict(list)
    seen: set[tuple[str | None, str]] = set()  # a name that two packages have is shown in the first
    for stub in sorted((root / "fastmeta").rglob("__init__.pyi")):
        package = ".".join(stub.parent.relative_to(root).parts)
        for node in ast.parse(stub.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fastmeta."):
                room = package.split(".")[1] if "." in package else str(node.module).split(".")[1]
                new = [alias.name for alias in node.names if (node.module, alias.name) not in seen]
                names[room] += [f"{package}.{name}" for name in new]
                seen |= {(node.module, name) for name in new}
    return {room: _room(room, sorted(found, key=str.lower)) for room, found in names.items()}


def _room(room: str, names: list[str]) -> str:
    import importlib

    from fastmeta.learning.learner import Learner

    module = importlib.import_module(f"fastmeta.{room}")
    text = f"# {ROOMS.get(room, room.capitalize())}\n\n{module.__doc__}\n\n"
    for name in names:
        package, _, last = name.rpartition(".")
        thing = getattr(importlib.import_module(package), last)
        if not isinstance(thing, type):
            kind, options = ("function" if callable(thing) else "data"), ""
        else:
            learner = issubclass(thing, Learner) and room == "algorithms"
            shown = [member for member in LEARNER_MEMBERS.split(", ") if learner and hasattr(thing, member)]
            kind, options = "class", f"   :members: {', '.join(shown)}\n"
        text += f"## {last}\n\n```{{eval-rst}}\n.. auto{kind}:: {name}\n{options}```\n\n"
        text += _fields(thing) if isinstance(thing, type) else ""
    return text


def _fields(thing: type) -> str:
    """A line for each field of a class that a comment beside it explains, which autodoc does not show."""
    import inspect

    found = re.findall(r"^    ([a-z]\w*): (?!ClassVar)[^#\n]+  # (.+)$", inspect.getsource(thing), re.MULTILINE)
    lines = [f"- `{field}`: {said.replace('*', chr(92) + '*')}\n" for field, said in found]
    return f"Fields:\n\n{''.join(lines)}\n" if lines else ""


def command_line() -> str:
    """What --help prints, for every command."""
    import click

    from fastmeta.cli import main

    text = "# Command line\n\nWhat `--help` prints.\n\n"

    def told(command: click.Command, path: list[str], parent: click.Context | None) -> None:
        nonlocal text
        context = click.Context(command, info_name=path[-1], parent=parent, max_content_width=100)
        text += f"{'#' * min(len(path) + 1, 3)} {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                if found is not None:
                    told(found, [*path, name], context)

    told(main, ["fastmeta"], None)
    return text


def subjects(docs: Path, index: str) -> list[str]:
    """Pages of docs/ that no list of the start page names: those that are added later."""
    listed = {line.strip() for line in index.splitlines()} | {"index"}
    return sorted(path.stem for path in docs.glob("*.md") if path.stem not in listed)


def linked(docs: Path, name: str, text: str) -> str:
    """A page whose links to files of the repository lead to pages of the site, to downloads or to pictures."""
    root, page = docs.parent, Path("docs", f"{name}.md")
    if name == "index":
        text = text.replace("SUBJECTS", "\n".join(subjects(docs, text)))
    original = Path(*page.parts[2:]) if page.parts[1] == "pages" else page

    def replaced(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        wanted = os.path.normpath(original.parent / target)
        brought = docs / "pages" / wanted
        if brought.is_file():
            return f"{label}({os.path.relpath(brought, (root / page).parent)}{anchor})"
        if (root / wanted).is_dir():
            return f"{label[1:-1]} (`{wanted}`)"
        return f"{label}({os.path.relpath(root / wanted, (root / page).parent)}{anchor})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def marked(lines: list[str]) -> None:
    """A docstring of this project, plain text, as reStructuredText, in place."""
    paragraphs, made = re.split(r"\n\s*\n", "\n".join(lines).strip("\n")), []
    for paragraph in paragraphs:
        if paragraph.lstrip().startswith(">>>"):
            made += [paragraph, ""]
        elif paragraph.startswith(" "):
            made += ["::", "", "\n".join(f"    {line}" for line in paragraph.split("\n")), ""]
        else:
            for item in re.split(r"\n(?=- )", paragraph):
                made += [" ".join(_escaped(item).split()), ""]
    lines[:] = "\n".join(made).split("\n")


def _escaped(text: str) -> str:
    parts = text.split("`")
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"``{part.strip()}``"
        else:
            parts[i] = re.sub(r"([\\*|])|(?<=\w)(_)(?!\w)", lambda found: "\\" + found[0], part)
    return "".join(parts)
