"""The examples on small data, made here; and on the real data where they lie in FASTMETA_DATA or ../shared/data."""

from __future__ import annotations

import csv
import gzip
import json
import os
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastmeta as fm
from examples import download
from examples.intents import __main__ as intents
from examples.intents import requests
from examples.molecules import __main__ as molecules
from examples.molecules import assays
from examples.pendulum import __main__ as pendulum
from examples.pendulum import pendulums
from examples.speech import __main__ as speech
from examples.transfer_or_meta import __main__ as transfer_or_meta
from examples.your_images import __main__ as your_images

ROOT = Path(__file__).resolve().parents[2]
PLACES = [os.environ.get("FASTMETA_DATA", ""), str(ROOT.parent / "shared" / "data")]
DATA = next((Path(place) for place in PLACES if place and Path(place).is_dir()), None)
real = pytest.mark.skipif(DATA is None, reason="no data: set FASTMETA_DATA to a folder with molecules, clinc150, ...")
EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/__main__.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_says_what_does_not_help_and_shows_what_it_printed(name):
    folder = ROOT / "examples" / name
    text = (folder / "README.md").read_text("utf-8")
    assert "```text\n" in text
    assert "does not help" in text
    assert any((folder / file).exists() for file in ("picture.png", "picture.gif"))


@real
def test_molecules_of_tox21():
    train, test = molecules.protocol(DATA / "molecules", "tox21", True, seed=0)
    known, new = ({row.tobytes() for row in part.x} for part in (train, test))
    assert (len(train.x), len(test.x)) == (5604, 2402)
    assert len(known & new) < 0.1 * len(new)  # molecules of equal fingerprints
    score = molecules.start(assays.prior(train.x, assays.ridges(train.x, train.y, True)), test, 3)[0]
    assert 0.6 < score.mean < 0.85


def made_requests(folder: Path) -> Path:
    """BANKING77's files with six intents of three parts."""
    (folder / "few_shot_splits").mkdir(parents=True)
    kinds = ["send_money", "lost_card", "exchange_rate", "open_account", "change_pin", "top_up"]
    for part in ("train", "test"):
        with open(folder / f"{part}.csv", "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "category"])
            rows.writerows((f"please {kind.replace('_', ' ')} number {i}", kind) for kind in kinds for i in range(12))
    for place, part in enumerate(("train", "valid", "test")):
        lines = "\n".join(kinds[2 * place : 2 * place + 2])
        (folder / "few_shot_splits" / f"fold1.{part}.txt").write_text(lines)
    return folder


def test_requests_are_found_by_the_names_of_what_they_ask(tmp_path):
    folder = made_requests(tmp_path / "banking77")
    texts, names, outside = requests.read(folder)
    kinds, y = np.unique(names, return_inverse=True)
    part = requests.split(folder, 1, kinds.tolist())
    assert {kinds[i] for i in part["test"]} == {"change_pin", "top_up"}
    rows = [fm.tasks.hashed_text(given) for given in (texts, [kind.replace("_", " ") for kind in kinds])]
    raw = requests.weighed(requests.Requests(rows[0], y, rows[1], rows[0][:1]), part["train"])
    few = raw.tasks(part["test"], ways=2, shots=1, queries=5)
    assert few.attributes.shape == (2, 2048)
    learner = fm.ZeroShot(
        fm.MLP((8, 8), scheme="identity"), fm.MLP((8, 8), scheme="identity"), "cosine", device="numpy"
    )
    small = requests.reduced(raw, np.arange(6), 8)
    learner.fit(small.tasks(part["test"], ways=2, queries=5), 0)
    five = small.tasks(np.arange(6), ways=5, shots=2, queries=5)
    plain = fm.ProtoNet(fm.MLP((8, 8), scheme="identity"), "cosine", device="numpy").fit(five, 0)
    np.testing.assert_allclose(intents.nearest_mean(five, 6), plain.evaluate(five, 6).values)
    unseen = np.isin(y, part["test"])
    found = part["test"][learner.adapt(small.names[part["test"]]).predict(small.x[unseen])]
    assert (found == y[unseen]).mean() == 1.0
    assert not outside


@real
def test_intents_of_clinc150():
    texts, names, outside = requests.read(DATA / "clinc150")
    assert (len(texts), len(set(names)), len(outside)) == (22500, 150, 1000)
    part = requests.split(DATA / "clinc150", 1, sorted(set(names)))
    assert [len(part[name]) for name in ("train", "valid", "test")] == [50, 50, 50]
    assert len(np.unique(np.concatenate(list(part.values())))) == 150


def test_a_pendulum_swings_with_its_period_and_loses_no_energy_by_itself():
    body = np.array([1.0, 1.0, 0.0, 1.0])
    angle, speed, angles = np.array(0.1), np.array(0.0), []
    for _ in range(400):
        angle, speed = pendulums.move(body, angle, speed, np.array(0.0))
        angles.append(float(angle))
    signs = np.sign(angles)
    crossings = np.flatnonzero(signs[1:] != signs[:-1])
    period = 2 * np.diff(crossings).mean() * pendulums.DT
    assert period == pytest.approx(2 * np.pi / np.sqrt(pendulums.GRAVITY), rel=0.01)
    assert max(angles[-60:]) == pytest.approx(0.1, rel=0.03)


def test_tasks_are_the_moves_of_one_pendulum():
    one = pendulums.Pendulums().sample(2, seed=3)
    assert one.x_support.shape == (2, 16, 4)
    again = pendulums.Pendulums().sample(2, seed=3)
    np.testing.assert_array_equal(one.y_query, again.y_query)
    both = np.concatenate([one.x_support, one.x_query], axis=1)
    change = np.concatenate([one.y_support, one.y_query], axis=1)
    np.testing.assert_allclose(
        4 * np.diff(both[..., 2], axis=1), change[:, :-1, 0], atol=2e-5
    )  # the speed is carried on


def test_the_true_model_swings_a_light_pendulum_up():
    angles, value = pendulum.control(np.array([0.5, 0.5, 0.1, 1.2]), None, seed=0)
    assert -np.cos(angles[-20:]).mean() > 0.9
    assert value > 0.5


def test_adaptation_lowers_the_error_of_unseen_pendulums():
    rows, _, _ = pendulum.errors(seed=0, iterations=60, episodes=40)
    assert rows["MAML, 10 steps"].mean < rows["MAML, 0 steps"].mean


def made_voices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six people who say ten digits, each in a manner of their own."""
    rng = np.random.default_rng(0)
    y, who = np.tile(np.repeat(np.arange(10), 12), 6), np.repeat(np.arange(6), 120)
    own = rng.integers(0, 200, (6, 10, 1280))
    return (own[who, y] + rng.integers(0, 55, (720, 1280))).astype(np.uint8), y, who


def test_a_person_is_heard_by_own_recordings_only():
    x, y, who = made_voices()
    found = speech.fold(x, y, who, [4, 5], seed=0, iterations=3)
    assert set(found) == {4, 5}
    assert set(found[4]) == set(speech.ROWS)
    assert found[4]["nearest"].mean == 1.0  # each person's digits lie far apart
    assert found[4]["everybody"].mean < 0.5  # and are like nobody else's
    assert fm.compare(found[4]["nearest"], found[4]["everybody"]).significant


@real
def test_speech_of_six_people():
    x, y, who, names = speech.read(DATA / "spoken_digits" / "log-mel.npz")
    assert x.shape == (3000, 1280)
    assert len(names) == 6
    assert np.bincount(10 * who + y).tolist() == [50] * 60


def test_a_picture_is_classified_saved_loaded_and_served(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(your_images, "SIDE", 16)
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for kind in range(6):
            (tmp_path / "pictures" / part / f"{part}{kind}").mkdir(parents=True)
            colour = rng.integers(0, 200, 3)
            for i in range(8):
                pixels = (colour + rng.integers(0, 55, (16, 16, 3))).astype("uint8")
                Image.fromarray(pixels).save(tmp_path / "pictures" / part / f"{part}{kind}" / f"{i}.png")
    learner, score = your_images.train(tmp_path / "pictures", iterations=5)
    assert score.batch_norm == "frozen"
    learner.save(tmp_path / "learner.safetensors")
    your_images.classifier(fm.load(tmp_path / "learner.safetensors"), tmp_path / "pictures" / "test").save(
        tmp_path / "model.safetensors"
    )
    model = fm.load(tmp_path / "model.safetensors")
    new = tmp_path / "pictures" / "test" / "test2" / "7.png"
    alone = your_images.classify(model, new)
    assert alone["class"] == "test2"
    with your_images.server(model, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{server.server_port}/"
        served = json.loads(opener.open(url, data=new.read_bytes(), timeout=60).read())
        assert served == pytest.approx(alone)
        with pytest.raises(urllib.error.HTTPError) as told:
            opener.open(url, data=b"no picture", timeout=60)
        with told.value as answer:
            assert answer.code == 400
            assert "error" in json.loads(answer.read())
        server.shutdown()


@real
@pytest.mark.parametrize("name", ["clinc150", "banking77"])
def test_downloads_are_checked_and_laid_out_as_the_examples_read_them(name, tmp_path):
    """From a copy of the data, as GitHub would answer."""

    def get(address: str) -> bytes:
        file = address.rsplit("/", 1)[1]
        if "labels" in file:
            fold, part = int(address.split("/")[-2]), file.split(".")[1]
            return (DATA / name / "few_shot_splits" / f"fold{fold}.{part}.txt").read_bytes()
        if file.endswith(".json"):
            return gzip.decompress((DATA / name / f"{file}.gz").read_bytes())
        return (DATA / name / file).read_bytes()

    download.download(name, tmp_path, get)
    assert requests.read(tmp_path / name) == requests.read(DATA / name)
    kinds = sorted(set(requests.read(DATA / name)[1]))
    for part, numbers in requests.split(tmp_path / name, 3, kinds).items():
        np.testing.assert_array_equal(numbers, requests.split(DATA / name, 3, kinds)[part])
    with pytest.raises(ValueError, match=r"has SHA-256 \w+ but must have \w+. Download it anew"):
        download.download(name, tmp_path, lambda address: get(address) + b"x")


def test_heads_share_their_pretraining_and_rows_their_tasks(capsys):
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(10, 6))[np.repeat(np.arange(10), 25)] + 0.3 * rng.normal(size=(250, 6)),
        np.arange(250) // 25,
    )
    tasks = fm.tasks.from_arrays(x, y, queries=10)
    transfer = fm.Transfer(fm.MLP((6, 16, 10)), device="numpy").fit(tasks, 20)
    other = transfer_or_meta.with_head(transfer, "centroid")
    assert (transfer.head, other.head) == ("linear", "centroid")
    assert other.theta is transfer.theta
    rows = {transfer_or_meta.BASELINE: transfer, "centroid": other}
    found = transfer_or_meta.table("blobs", rows, {"here": tasks}, episodes=5)
    assert set(found) == {("here", row, shots) for row in rows for shots in (1, 2, 5, 10)}
    assert found["here", "centroid", 1].mean > 0.6
    assert capsys.readouterr().out.count("±") == 9
