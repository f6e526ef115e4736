"""A model of one task: named classes, one new picture, saved and loaded."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import fastmeta as fm

RNG = np.random.default_rng(0)
LABELS = ["cow", "ant", "bee"] * 3
CENTRES = {"ant": 0.0, "bee": 3.0, "cow": -3.0}
X = np.stack([CENTRES[name] + RNG.normal(size=4) for name in LABELS]).astype(np.float32)
NUMBERS = np.array([sorted(CENTRES).index(name) for name in LABELS])
TASKS = fm.tasks.from_arrays(X, LABELS, ways=3, shots=1, queries=2)
NORMED = fm.Network([fm.Linear(8), fm.BatchNorm(), fm.ReLU(), fm.Linear(3)], (4,))
LEARNERS: dict[str, Any] = {
    "MAML": lambda: fm.MAML(fm.MLP((4, 8, 3)), 0.1, 3, device="numpy"),
    "MAML with more outputs": lambda: fm.MAML(fm.MLP((4, 8, 7)), 0.1, 3, device="numpy"),
    "MAML, batch norm": lambda: fm.MAML(NORMED, 0.1, 3, device="numpy"),
    "iMAML": lambda: fm.iMAML(fm.MLP((4, 8, 3)), 0.1, 3, device="numpy"),
    "Reptile": lambda: fm.Reptile(fm.MLP((4, 8, 3)), 0.1, device="numpy"),
    "ProtoNet": lambda: fm.ProtoNet(fm.MLP((4, 8)), device="numpy"),
    "ProtoNet, cosine": lambda: fm.ProtoNet(NORMED, "cosine", device="numpy"),
    "Transfer": lambda: fm.Transfer(NORMED, "centroid", device="numpy"),
}


def adapted(kind: str, labels: Any = LABELS, **options: Any) -> Any:
    return LEARNERS[kind]().fit(TASKS, 2).adapt(X, labels, **options)


@pytest.mark.parametrize("kind", LEARNERS)
def test_names_are_predicted_where_names_were_given(kind):
    model, plain = adapted(kind), adapted(kind, NUMBERS)
    assert model.names == ("ant", "bee", "cow")
    assert plain.names == ()
    np.testing.assert_array_equal(model.outputs(X), plain.outputs(X))
    said = model.predict(X)
    assert said.dtype.kind == "U"
    best = plain.outputs(X)[:, :3].argmax(axis=1)
    np.testing.assert_array_equal(said, np.array(["ant", "bee", "cow"])[best])
    assert plain.predict(X).dtype.kind == "i"
    assert (said == LABELS).mean() > 0.5


def test_other_names_than_strings():
    learner = LEARNERS["ProtoNet"]().fit(TASKS, 0)
    pairs = [(name, 1) for name in LABELS]
    assert learner.adapt(X, pairs).predict(X).tolist() == [(n, 1) for n in learner.adapt(X, LABELS).predict(X)]
    flags = learner.adapt(X, [name == "ant" for name in LABELS]).predict(X)
    assert flags.dtype == object
    assert set(flags.tolist()) <= {True, False}
    with pytest.raises(TypeError, match=r"y_support\[0\]=\['cow'\] of type list must be hashable"):
        learner.adapt(X, [[name] for name in LABELS])
    with pytest.raises(ValueError, match=r"y_support of shape \(8,\) must hold one label a sample: \(9,\)"):
        learner.adapt(X, LABELS[:-1])


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_saved_model_predicts_the_same_bits(kind, tmp_path):
    model = adapted(kind)
    model.save(tmp_path / "new" / "model.safetensors")
    loaded = fm.load(tmp_path / "new" / "model.safetensors", device="numpy")
    assert type(loaded) is type(model)
    assert f"{loaded!r}" == f"{model!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert loaded.outputs(X[:2]).tobytes() == model.outputs(X[:2]).tobytes()
        np.testing.assert_array_equal(loaded.predict(X[:2]), model.predict(X[:2]))
    assert loaded.together == model.together


@pytest.mark.parametrize("mode", ["support", "frozen", "transductive"])
def test_batch_norm_of_a_saved_model(mode, tmp_path):
    model = adapted("MAML, batch norm", batch_norm=mode)
    model.save(tmp_path / "x")
    assert fm.load(tmp_path / "x", device="numpy").outputs(X).tobytes() == model.outputs(X).tobytes()


def test_models_of_many_tasks_of_regression_and_of_attributes(tmp_path):
    sine = fm.tasks.Sinusoid().sample(3, 0)
    maml = fm.MAML(fm.MLP((1, 8, 1)), 0.01, device="numpy").fit(fm.tasks.Sinusoid(), 1)
    model = maml.adapt(sine.x_support, sine.y_support)
    model.save(tmp_path / "x")
    assert fm.load(tmp_path / "x", "numpy").predict(sine.x_query).tobytes() == model.predict(sine.x_query).tobytes()
    described = fm.tasks.AttributeClasses(shots=1)
    batch = described.sample(1, 0)
    for learner, data in (
        (fm.ZeroShot(fm.MLP((10, 4)), fm.MLP((6, 4)), device="numpy"), (batch.attributes[0],)),
        (
            fm.SideInformation(fm.MLP((10, 4)), fm.MLP((6, 4)), device="numpy"),
            (batch.x_support[0], [*"edcba"], batch.attributes[0]),
        ),
    ):
        model = learner.fit(described, 1).adapt(*data)
        model.save(tmp_path / "x")
        loaded = fm.load(tmp_path / "x", "numpy")
        np.testing.assert_array_equal(loaded.predict(batch.x_query[0]), model.predict(batch.x_query[0]))
        assert loaded.names == model.names


def test_names_come_back_as_they_were(tmp_path):
    learner = LEARNERS["ProtoNet"]().fit(TASKS, 0)
    kinds = {"ant": ("a", (1, True)), "bee": 2**70, "cow": "é"}
    learner.adapt(X, [kinds[name] for name in LABELS]).save(tmp_path / "x")
    names = fm.load(tmp_path / "x").names
    assert set(names) == set(kinds.values())
    assert {type(name) for name in names} == {tuple, int, str}
    with pytest.raises(TypeError, match="to be saved"):
        learner.adapt(X, [frozenset([name]) for name in LABELS]).save(tmp_path / "y")
    assert os.listdir(tmp_path) == ["x"]


def test_a_repr_is_short():
    assert f"{adapted('MAML')!r}" == "<AdaptedModel of MLP(sizes=(4, 8, 3)); classes ant, bee, cow>"
    many = LEARNERS["ProtoNet"]().fit(TASKS, 0).adapt(X, [*"abcdefghi"])
    assert f"{many!r}" == "<PrototypeModel of MLP(sizes=(4, 8)); classes a, b, c, d, e and 4 more>"


@pytest.mark.parametrize("kind", ["MAML", "ProtoNet"])
def test_damaged_and_edited_models_are_refused(kind, tmp_path):
    path = tmp_path / "x"
    adapted(kind).save(path)
    content = path.read_bytes()
    for place in range(300, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r'path=".*x" must be'):
            fm.load(path)
    path.write_bytes(content[:-3])
    with pytest.raises(ValueError, match="cut short"):
        fm.load(path)


def rewritten(path: Path, change: Any) -> None:
    """The file anew, with its description or arrays changed and without a checksum."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    description, arrays = json.loads(metadata["description"]), load_file(path)
    change(description, arrays)
    save_file(arrays, path, {"fastmeta_format": "1", "description": json.dumps(description)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, a: d.update(algorithm="MALM"), 'algorithm="MALM" must be one of'),
        (lambda d, a: d.update(model="Other"), 'model="Other" must be one of'),
        (lambda d, a: a.update(theta=a["theta"][:-1].copy()), "theta of shape"),
        (lambda d, a: a.update(theta=a["theta"] * np.float32(np.inf)), "theta must be finite"),
        (lambda d, a: a.update(theta=a["theta"].astype(np.int64)), "theta must not be of dtype int64"),
        (lambda d, a: a.pop("theta"), "it has no 'theta'"),
        (lambda d, a: d.pop("names"), "it has no 'names'"),
        (lambda d, a: d["settings"].update(colour=3), "colour"),
        (lambda d, a: d.update(preparation={"pictures": [4, 4], "inverted": False}), r"shape=\(4, 4\) must be"),
        (lambda d, a: d.update(preparation={"pictures": [4, 4, 3]}), "it has no 'inverted'"),
    ],
)
def test_a_file_of_something_else_is_refused(change, message, tmp_path):
    adapted("MAML").save(tmp_path / "x")
    rewritten(tmp_path / "x", lambda d, a: None)
    fm.load(tmp_path / "x")
    rewritten(tmp_path / "x", change)
    with pytest.raises(ValueError, match=f'path=".*x" must be a checkpoint as fastmeta wrote it: .*{message}'):
        fm.load(tmp_path / "x")


# pictures


def folders(root: Path, side: int = 12) -> Path:
    """Class folders of pictures, a colour a class."""
    rng = np.random.default_rng(1)
    for part, count in (("train", 4), ("test", 3)):
        for kind in range(count):
            folder = root / part / f"{part}-{kind}"
            folder.mkdir(parents=True)
            colour = rng.integers(0, 200, 3)
            for i in range(4):
                noise = rng.integers(0, 55, (side, side, 3))
                Image.fromarray((colour + noise).astype("uint8")).save(folder / f"{i}.png")
    return root


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Any:
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    root = folders(tmp_path / "pictures")
    images = fm.tasks.Images(root, ways=3, shots=1, queries=2, image_size=8)
    learner = fm.ProtoNet(fm.Conv4((8, 8, 3), 4, None), device="numpy").fit(images.train, 3, tasks_per_step=1)
    return root, images, learner


def test_from_a_folder_to_one_new_picture(pictures, tmp_path):
    root, _, learner = pictures
    learner.save(tmp_path / "learner")
    loaded = fm.load(tmp_path / "learner", device="numpy")
    assert loaded.preparation == fm.tasks.Pictures((8, 8, 3))
    files, names = fm.tasks.list_images(root / "test")
    assert names == [name for name in ("test-0", "test-1", "test-2") for _ in range(4)]
    known = [i for i in range(12) if i % 4]
    model = loaded.adapt([files[i] for i in known], [names[i] for i in known], batch_norm="frozen")
    model.save(tmp_path / "model")
    ready = fm.load(tmp_path / "model", device="numpy")
    x = fm.tasks.read_images(files[::4], (8, 8, 3))
    by_hand = learner.adapt(
        fm.tasks.read_images([files[i] for i in known], (8, 8, 3)), [names[i] for i in known], batch_norm="frozen"
    )
    np.testing.assert_array_equal(ready.outputs(files[::4]), by_hand.outputs(x))
    for i in (0, 4, 8):
        alone = ready.predict(files[i])
        assert alone == by_hand.predict(x)[i // 4]
        assert type(alone) is str
        assert ready.predict(str(files[i])) == ready.predict(Image.open(files[i])) == alone
        assert ready.predict(np.asarray(Image.open(files[i]))) == alone
        assert ready.probabilities(files[i]).shape == (3,)
        assert np.shape(ready.distance(files[i])) == ()
    assert ready.predict(files[::4]).tolist() == by_hand.predict(x).tolist()
    assert f"{ready!r}".endswith("; classes test-0, test-1, test-2; pictures as 8 x 8 x 3>")


def test_every_kind_of_picture_is_prepared_as_its_file_is(pictures, tmp_path):
    preparation = pictures[2].preparation
    rng = np.random.default_rng(3)
    colour = rng.integers(0, 256, (20, 10, 3), dtype=np.uint8)
    grey = rng.integers(0, 65536, (20, 10), dtype=np.uint16)
    for array, name in ((colour, "a.png"), (grey, "b.png"), (colour[:, :, 0], "c.png")):
        Image.fromarray(array).save(tmp_path / name)
        wanted = fm.tasks.read_images([tmp_path / name], (8, 8, 3))
        for given in (tmp_path / name, Image.open(tmp_path / name), array):
            x, alone = preparation.samples(given)
            assert alone
            np.testing.assert_array_equal(x, wanted)
        x, alone = preparation.samples([array, tmp_path / name])
        assert not alone
        np.testing.assert_array_equal(x, np.concatenate([wanted, wanted]))
    single = fm.tasks.Pictures((8, 8, 1))
    Image.fromarray(colour).save(tmp_path / "a.png")
    wanted = fm.tasks.read_images([tmp_path / "a.png"], (8, 8, 1))
    for given in (colour, Image.fromarray(colour), tmp_path / "a.png"):
        np.testing.assert_array_equal(single.samples(given)[0], wanted)
    inverted = fm.tasks.Pictures((8, 8, 1), inverted=True)
    np.testing.assert_allclose(inverted.samples(colour)[0], 1 - wanted, rtol=0, atol=2**-23)
    np.testing.assert_allclose(inverted.samples(grey)[0], 1 - single.samples(grey)[0], rtol=0, atol=2**-23)
    turned = Image.fromarray(colour)
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "t.jpg", exif=turned.getexif())
    np.testing.assert_array_equal(
        preparation.samples(Image.open(tmp_path / "t.jpg"))[0], fm.tasks.read_images([tmp_path / "t.jpg"], (8, 8, 3))
    )


def test_samples_are_taken_as_they_are(pictures):
    _, images, learner = pictures
    batch = images.train.sample(2, 0)
    model = learner.adapt(batch.x_support, batch.y_support, batch_norm="frozen")
    assert model.predict(batch.x_query).shape == (2, 6)
    model = learner.adapt(batch.x_support[0], batch.y_support[0], batch_norm="frozen")
    pixels = (255 * batch.x_query[0]).round().astype(np.uint8)
    np.testing.assert_array_equal(model.outputs(pixels), model.outputs(batch.x_query[0]))
    np.testing.assert_array_equal(model.outputs(list(pixels)), model.outputs(batch.x_query[0]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((9, 9, 4), np.uint8), r"x of shape \(9, 9, 4\) must be a picture .* Leave transparency out"),
        (np.zeros((9, 9, 7), np.uint8), r"x of shape \(9, 9, 7\) must be a picture .* or samples \(N, 8, 8, 3\)"),
        (np.zeros((9, 9, 3), int), "x must be a picture, but its pixels of dtype int64 must be uint8"),
        (np.full((9, 9, 3), 200.0), r"x must be a picture, but its float pixels must be in 0 \.\. 1"),
        (np.zeros((0, 9, 3), np.uint8), r"x of shape \(0, 9, 3\) must be a picture"),
        (np.zeros(5), r"x of shape \(5,\) must be a picture"),
        ("nowhere.png", "nowhere.png must be a whole image file"),
        ([], "must be"),
    ],
)
def test_what_is_no_picture_is_named(x, message, pictures):
    _, images, learner = pictures
    batch = images.train.sample(1, 0)
    with pytest.raises(ValueError, match=message):
        learner.adapt(batch.x_support[0], batch.y_support[0], batch_norm="frozen").predict(x)


def test_a_damaged_picture_and_grey_from_colour(pictures, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"x\.png must be a whole image file"):
        pictures[2].preparation.samples(tmp_path / "x.png")
    with pytest.raises(ValueError, match="x is in colour, but the pictures that were learned from are grey"):
        fm.tasks.Pictures((8, 8, 1)).samples(np.zeros((4, 4, 3)))
    for file, opened in ((b"PNG", r"io\.BytesIO\(x\)"), (io.BytesIO(b"PNG"), "x")):
        with pytest.raises(TypeError, match=rf"must be a picture and not its file\. Give PIL\.Image\.open\({opened}\)"):
            pictures[2].preparation.samples(file)
    for shape in ((8, 8), (8, 8, 2), (0, 8, 3)):
        with pytest.raises(ValueError, match="shape"):
            fm.tasks.Pictures(shape)


def test_a_learner_of_arrays_says_that_it_knows_no_pictures(tmp_path):
    model = adapted("ProtoNet")
    for x in (tmp_path / "x.png", "x.png", Image.fromarray(np.zeros((4, 4), np.uint8)), ["x.png"]):
        with pytest.raises(TypeError, match="do not say how a picture becomes a sample"):
            model.predict(x)
        with pytest.raises(TypeError, match=r"x_support=.* do not say how a picture becomes a sample"):
            LEARNERS["MAML"]().fit(TASKS, 0).adapt(x, LABELS)


def test_the_preparation_is_that_of_the_last_tasks(pictures, tmp_path):
    x = np.zeros((40, 8, 8, 3), np.uint8)
    plain = fm.tasks.from_arrays(x, np.arange(40) % 4, ways=3, shots=1, queries=2)
    told = fm.tasks.from_arrays(x, np.arange(40) % 4, 3, 1, 2, preparation=fm.tasks.Pictures((8, 8, 3)))
    net = fm.Network([fm.Flatten(), fm.Linear(4), fm.Linear(4)], (8, 8, 3))
    transfer = fm.Transfer(net, device="numpy").fit(told, 1, checkpoint=tmp_path / "x")
    assert transfer.preparation == told.preparation == fm.load(tmp_path / "x").preparation
    assert transfer.fit(plain, 1).preparation is None
    assert transfer.clone().preparation is None
    with pytest.raises(ValueError, match=r"preparation=Pictures\(shape=\(9, 8, 3\).* must give samples of x"):
        fm.tasks.from_arrays(x, np.arange(40) % 4, 3, 1, 2, preparation=fm.tasks.Pictures((9, 8, 3)))


def test_a_listing_needs_class_folders(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a folder of class folders"):
        fm.tasks.list_images(tmp_path / "nowhere")
    (tmp_path / "empty" / "kind").mkdir(parents=True)
    with pytest.raises(ValueError, match="must hold images"):
        fm.tasks.list_images(tmp_path / "empty")
