"""The documentation site: `pip install ".[docs]"`, then `python -m sphinx -W docs docs/_build`.

Sphinx, because autodoc reads the docstrings of the names as they are imported, which here load late; because -W makes
a broken link or an unknown page an error; and because its search needs no server. Pages are Markdown (MyST).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "kernels")]

import generated  # noqa: E402

import fastmeta  # noqa: E402

project, author, version = "fastmeta", "The fastmeta authors", fastmeta.__version__
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest"]
exclude_patterns = ["_build", "deployment/*.c"]
suppress_warnings = ["myst.header", "misc.highlighting_failure"]  # pages of the repository begin where they like
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "fastmeta"
html_favicon = "favicon.svg"
html_show_sphinx = False
html_copy_source = False


def setup(app):  # type: ignore[no-untyped-def]
    """Pages that are made or brought in, links between them, and docstrings as Sphinx wants them."""
    generated.write(HERE)
    app.connect("source-read", lambda app, name, source: source.__setitem__(0, generated.linked(HERE, name, source[0])))
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: generated.marked(lines))
