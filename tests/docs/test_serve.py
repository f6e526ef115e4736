"""The service of docs/howto/serve.md: what it answers, how long it is, how soon it is ready."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastmeta as fm

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "serve.md").read_text("utf-8")
PROGRAM, SERVICE = (
    re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0] for kind in ("python", "py")
)
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}", "PYTHONWARNINGS": "error"}
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Service:
    """The service as a process of its own, and what it cost until it was ready."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, folder / "service.py", "0"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        said = self.process.stdout.readline()
        self.cpu_seconds = cpu_seconds(self.process.pid)
        self.port = int(said.removeprefix("ready on port "))

    def post(self, body: bytes) -> tuple[int, object]:
        """Status and answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", body, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process so far; nan where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model that the page makes, and the service."""
    made = tmp_path_factory.mktemp("service")
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=made, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    (made / "service.py").write_text(SERVICE, "utf-8")
    return made


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    found = Service(folder)
    yield found
    found.process.terminate()
    found.process.communicate(timeout=60)


def test_it_answers_as_the_model_does_and_says_what_is_wrong(service, folder):
    model = fm.load(folder / "curve.safetensors", device="numpy")
    status, answer = service.post(b"[[0.5], [1.5]]")
    assert status == 200
    assert np.array_equal(np.float32(answer), model.predict([[0.5], [1.5]]))
    for body, said in (
        (b"[[0.5, 1.5]]", "x has 2 features but this network takes 1"),
        (b"[[0.5], []]", "its rows differ in length"),
        (b"[[NaN]]", "x must be finite"),
        (b"hello", "Expecting value"),
        (b'{"x": 1}', "x must hold numbers"),
    ):
        status, answer = service.post(body)
        assert (status, said in answer["error"]) == (400, True), answer
    assert service.post(b"[[0.5]]")[0] == 200  # still there


def test_it_has_at_most_twenty_lines():
    assert len([line for line in SERVICE.splitlines() if line.strip()]) <= 20


def test_it_is_ready_in_half_a_second(folder):
    """Of a processor's time, which other work does not change, as a share of what NumPy's import takes here."""
    found, numpy_seconds = [], []
    program = "import numpy, time; print(time.process_time())"
    for _ in range(5):
        service = Service(folder)
        found.append(service.cpu_seconds)
        service.process.kill()
        service.process.communicate()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        numpy_seconds.append(float(done.stdout))
    slowness = max(1.0, min(numpy_seconds) / 0.1)
    print(f"CPU seconds until ready: {min(found):.2f}; NumPy alone: {min(numpy_seconds):.2f}")
    assert min(found) < 0.5 * slowness
