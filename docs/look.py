"""A look at the built site through a headless Chromium: `python -m docs.look docs/_build [--screenshots FOLDER]`."""

from __future__ import annotations

import argparse
import base64
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.browser import Browser, browser

PAGES = {"start": "index.html", "api": "pages/api/algorithms.html", "tutorial": "tutorials/sinusoid.html"}
WORD = "prototypes"
BROKEN = "return [...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src)"
FOUND = "return document.querySelectorAll('#search-results li').length"


class Quiet(SimpleHTTPRequestHandler):
    """Files of the site; nothing is written for a request."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def look(page: Browser, root: str, screenshots: Path | None) -> list[str]:
    """What is wrong with the pages."""
    wrong = []
    for name, path in PAGES.items():
        page.go(f"{root}/{path}")
        wrong += [f"{path}: the picture {image} does not load" for image in page.script(BROKEN)]
        if not page.script("return document.querySelector('h1') !== null"):
            wrong.append(f"{path}: there is no heading")
        if screenshots:
            (screenshots / f"{name}.png").write_bytes(base64.b64decode(page.screenshot()))
    page.go(f"{root}/search.html?q={WORD}")
    limit = time.monotonic() + 20
    while not (count := page.script(FOUND)) and time.monotonic() < limit:
        time.sleep(0.2)
    if not count:
        wrong.append(f'the search finds nothing for "{WORD}"')
    return wrong + [f"console: {line}" for line in page.errors()]


def main() -> None:
    """Serve the site on a free port, look at it, and end with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--screenshots", type=Path)
    options = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=options.site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser() as page:
            wrong = look(page, f"http://127.0.0.1:{server.server_port}", options.screenshots)
        server.shutdown()
    print("\n".join(wrong) or f"{len(PAGES)} pages and the search: no error, every picture loads")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
