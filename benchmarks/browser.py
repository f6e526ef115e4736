"""A headless Chromium that is driven as a person would: WebDriver by the standard library alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

DRIVER = shutil.which("chromedriver")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", "--window-size=800,700")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element in WebDriver's JSON


class Browser:
    """One page. Nothing can be reached from it: its proxy is a port at which nobody answers."""

    def __init__(self, root: str) -> None:
        self._root = root
        options = {"goog:chromeOptions": {"args": [*FLAGS]}, "goog:loggingPrefs": {"browser": "ALL"}}
        asked = {"capabilities": {"alwaysMatch": options}}
        self._session = f"/session/{self._call('POST', '/session', asked)['sessionId']}"

    def go(self, url: str) -> None:
        """Load a page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def script(self, text: str) -> Any:
        """What JavaScript returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": text, "args": []})

    def errors(self) -> list[str]:
        """What the console says is severe, since it was last asked."""
        lines = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def screenshot(self) -> str:
        """The window as a PNG, in base64."""
        return str(self._call("GET", f"{self._session}/screenshot"))

    def draw(self, css: str, points: Sequence[tuple[float, float]]) -> None:
        """Press the mouse at the first of the points (0 to 1 of the element's size), move through all, let go."""
        box = self.script(
            f"const b = document.querySelector('{css}').getBoundingClientRect(); return [b.width, b.height]"
        )
        element = {
            ELEMENT: self._call("POST", f"{self._session}/element", {"using": "css selector", "value": css})[ELEMENT]
        }
        moves = [
            {"type": "pointerMove", "duration": 20, "origin": element, "x": round(w * box[0]), "y": round(h * box[1])}
            for w, h in ((x - 0.5, y - 0.5) for x, y in points)
        ]
        press, let_go = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        mouse = {"type": "pointer", "id": "mouse", "actions": [moves[0], press, *moves[1:], let_go]}
        self._call("POST", f"{self._session}/actions", {"actions": [mouse]})

    def close(self) -> None:
        """End the browser."""
        self._call("DELETE", self._session)

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._root + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return json.loads(answer.read())["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, and its driver at a free port, both ended behind the block."""
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
            page = Browser(f"http://127.0.0.1:{port}")
            try:
                yield page
            finally:
                page.close()
        finally:
            driver.terminate()
