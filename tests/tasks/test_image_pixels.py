"""Pixels mean the same in folders, csv files, arrays and single pictures, in training and in prediction."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

import fastmeta as fm
from fastmeta.tasks.images.pixels import ENDINGS, FORMATS
from tests.tasks.pictures import PARTS, SIZE, draw, images, pixels

SHAPE = (SIZE, SIZE, 3)
RAMP = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
DEEP = {  # (pixels, ending): grey of more than 8 bits
    "16-bit PNG": ((RAMP * 65535).astype(np.uint16), "png"),
    "16-bit TIFF": ((RAMP * 65535).astype(np.uint16), "tif"),
    "big-endian TIFF": ((RAMP * 65535).astype(">u2"), "tiff"),
    "16-bit PGM": ((RAMP * 65535).astype(np.uint16), "pgm"),
    "12 bits in 16": ((RAMP * 4095).astype(np.uint16), "png"),
    "float TIFF": (RAMP.astype(np.float32), "tif"),
}


def everywhere(tmp_path, path, array) -> dict[str, np.ndarray]:
    """The first training image where `path` is every image of a folder and of Parquet, and `array` those of arrays."""
    found = {"read_images": fm.tasks.read_images([path], SHAPE)[0]}
    folder, table, data = tmp_path / "folder", tmp_path / "csv", tmp_path / "data"
    (table / "images").mkdir(parents=True)
    content, rows = path.read_bytes(), {part: [] for part in PARTS}
    for part, stem in PARTS.items():
        for kind in "ab":
            for i in range(2):
                for place in (folder / stem / f"{stem}{kind}", table / "images"):
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"{stem}{kind}{i}{path.suffix}").write_bytes(content)
                rows[part].append((f"{stem}{kind}{i}{path.suffix}", f"{stem}{kind}"))
        lines = ["filename,label", *(",".join(row) for row in rows[part])]
        (table / f"{stem}.csv").write_text("\n".join(lines))
    found["folder"] = images(folder).train.sample(1, 0).x_query[0, 0]
    found["cache"] = images(folder).train.sample(1, 0).x_query[0, 0]
    found["csv"] = images(table).train.sample(1, 0).x_query[0, 0]
    data.mkdir()
    parquet = pytest.importorskip("pyarrow.parquet")
    h5py = pytest.importorskip("h5py")
    import pyarrow

    y = np.repeat(np.arange(6), 2)
    split = {"train": ["0", "1"], "validation": ["2", "3"], "test": ["4", "5"]}
    parquet.write_table(pyarrow.table({"image": [content] * 12, "label": y}), data / "a.parquet")
    np.savez(data / "a.npz", x=np.stack([array] * 12), y=y)
    with h5py.File(data / "a.h5", "w") as file:
        file["x"], file["y"] = np.stack([array] * 12), y
    for name in ("a.parquet", "a.npz", "a.h5"):
        x = images(data / name, split=split).train.sample(1, 0).x_query[0, 0]
        found[name] = np.broadcast_to(x, SHAPE)
    return found


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_many_bits_keeps_its_shades_everywhere(tmp_path, name):
    array, ending = DEEP[name]
    white = 1 if array.dtype.kind == "f" else 65535
    path = draw(tmp_path / f"ramp.{ending}", array)
    for where, found in everywhere(tmp_path, path, array).items():
        np.testing.assert_allclose(found, np.repeat((array / white)[..., None], 3, axis=2), atol=1e-6, err_msg=where)
        assert found.dtype == np.float32


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "palette with transparency", "RGBA", "LA", "CMYK"])
def test_images_of_8_bits_are_the_same_everywhere(tmp_path, mode):
    image = Image.fromarray(pixels(3)).convert("P" if "palette" in mode else mode)
    options = {"transparency": bytes(range(256))} if "palette" in mode else {}
    path = tmp_path / f"one.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path, **options)
    wanted = np.asarray(image.convert("RGB"), np.float32) / 255
    for where, found in everywhere(tmp_path, path, np.asarray(image.convert("RGB"))).items():
        np.testing.assert_allclose(found, wanted, atol=1e-7, err_msg=where)


@pytest.mark.parametrize("form", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_viewers_show_them(tmp_path, orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(np.arange(0, 240, 40).reshape(2, 3).astype(np.uint8), np.ones((8, 8), np.uint8))  # (16, 24)
    lossless = {"lossless": True} if form == "webp" else {}
    path = draw(tmp_path / f"photo.{form}", np.stack([stored] * 3, axis=-1), exif=exif, **lossless)
    with Image.open(path) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    found = fm.tasks.read_images([path], shown.shape)[0]
    np.testing.assert_allclose(found, shown / 255, atol=1e-6)
    assert shown.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))


def test_damaged_exif_says_nothing_about_the_pixels(tmp_path):
    path = draw(tmp_path / "photo.png", pixels(1), exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    np.testing.assert_array_equal(fm.tasks.read_images([path], SHAPE)[0], pixels(1) / np.float32(255))


@pytest.mark.parametrize(
    ("array", "ending", "message"),
    [
        (np.full((8, 8), 255, np.float32), "tif", r"float pixels must be in 0 \.\. 1, not 255 \.\. 255"),
        (np.full((8, 8), -0.5, np.float32), "tif", r"must be in 0 \.\. 1, not -0\.5"),
        (np.full((8, 8), np.nan, np.float32), "tif", r"must be in 0 \.\. 1, not nan"),
        (np.full((8, 8), 200, np.int32), "tif", "whole numbers of 32 bits, which do not say how bright white is"),
    ],
)
def test_pixels_without_a_white_are_refused_by_name(tmp_path, array, ending, message):
    path = draw(tmp_path / f"odd.{ending}", array)
    with pytest.raises(ValueError, match=rf"odd\.{ending} must be a whole image file: .*{message}"):
        fm.tasks.read_images([path], SHAPE)


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint32", "complex64", "float64"])
def test_arrays_without_a_white_are_refused_by_name(tmp_path, dtype):
    split = {"train": ["0", "1"]}
    np.savez(tmp_path / "a.npz", x=np.full((4, 8, 8, 1), 255).astype(dtype), y=[0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"a\.npz must hold images"):
        images(tmp_path / "a.npz", split=split)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("side", [SIZE, 2 * SIZE])
def test_arrays_of_any_pixels_are_resized_alike(tmp_path, dtype, side):
    white = {"bool": 1, "uint8": 255, "uint16": 65535}.get(dtype, 1)
    x = np.zeros((4, side, side, 1))
    x[:, : side // 2] = 1
    np.savez(tmp_path / "a.npz", x=(x * white).astype(dtype), y=[0, 0, 1, 1])
    found = images(tmp_path / "a.npz", split={"train": ["0", "1"]}).train.sample(1, 0).x_query[0, 0]
    assert found.shape == (SIZE, SIZE, 1)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found[[0, 1, -2, -1], :, 0].T, np.tile([1, 1, 0, 0], (SIZE, 1)), atol=0.06)


def test_one_deep_image_makes_its_part_float_and_no_other(tmp_path):
    for part in PARTS.values():
        for kind in "ab":
            for i in range(2):
                draw(tmp_path / part / f"{part}{kind}" / f"{i}.png", pixels(i))
    draw(tmp_path / "train" / "traina" / "2.png", (RAMP * 65535).astype(np.uint16))
    for _ in range(2):  # decoded, and from the cache
        source = images(tmp_path)
        assert source.train.x.dtype == np.float32
        assert source.test.x.dtype == np.uint8
        np.testing.assert_array_equal(source.train.x[0], pixels(0) / np.float32(255))
        np.testing.assert_allclose(source.train.x[2, :, :, 1], RAMP, atol=2e-5)


@pytest.mark.parametrize("mixed", [("uint8", "uint16"), ("float32", "uint8"), ("bool", "float64")])
def test_files_of_different_pixels_join(tmp_path, mixed):
    for stem, dtype in zip(("train", "test"), mixed, strict=True):
        white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
        x = np.full((4, SIZE, SIZE, 1), white).astype(dtype)
        np.savez(tmp_path / f"{stem}.npz", x=x, y=np.array([f"{stem}a", f"{stem}b"]).repeat(2))
    split = {"train": ["traina", "testa"], "test": ["trainb", "testb"]}
    assert (images(tmp_path, split=split).train.sample(1, 0).x_query == 1).all()


@pytest.mark.parametrize("ending", [".tif", ".TIFF", ".gif", ".webp", ".jpe", ".pgm", ".bmp"])
def test_every_format_is_read_in_folders(tmp_path, ending):
    grey = np.full((SIZE, SIZE), 77, np.uint8)
    options = {"lossless": True} if ending == ".webp" else {}
    for part in PARTS.values():
        for kind in "ab":
            for i in range(2):
                draw(tmp_path / part / f"{part}{kind}" / f"{i}{ending}", grey, **options)
    assert (images(tmp_path).train.x == 77).all()


def test_the_endings_are_those_of_the_formats():
    Image.init()
    known = Image.registered_extensions()
    assert {known[ending] for ending in ENDINGS} == set(FORMATS)


# one new picture


def test_new_pictures_are_prepared_as_in_training(tmp_path):
    paths = []
    for part in PARTS.values():
        for kind in "ab":
            for i in range(2):
                paths.append(draw(tmp_path / part / f"{part}{kind}" / f"{i}.png", pixels(i, 20 + i)))
    x = images(tmp_path).train
    np.testing.assert_array_equal(fm.tasks.read_images(paths[:4], SHAPE), x.take(np.arange(4)))
    wide = fm.tasks.read_images(iter(paths[:2]), (6, 10, 1))
    assert wide.shape == (2, 6, 10, 1)
    with Image.open(paths[0]) as opened:
        expected = opened.convert("L").resize((10, 6), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(wide[0, :, :, 0], np.asarray(expected) / np.float32(255))


@pytest.mark.parametrize(
    ("paths", "shape", "error", "message"),
    [
        ("a.png", SHAPE, TypeError, r"paths='a\.png' must be several paths\. Give \['a\.png'\]"),
        (["a.png"], (8, 8), ValueError, r"shape=\(8, 8\) must be \(height, width, 1 or 3\)"),
        (["a.png"], (8, 8, 4), ValueError, r"shape=\(8, 8, 4\) must be"),
        (["a.png"], (0, 8, 3), ValueError, "shape=0 must be at least 1"),
        (["nowhere/a.png"], SHAPE, ValueError, r"nowhere.a\.png must be a whole image file: .*No such file"),
    ],
)
def test_bad_arguments_of_read_images(paths, shape, error, message):
    with pytest.raises(error, match=message):
        fm.tasks.read_images(paths, shape)


# uint8 in training, adaptation, prediction and the functional layer

NET = fm.Network([fm.Flatten(), fm.Linear(6), fm.Tanh(), fm.Linear(2)], (4, 4, 1))
X = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
Y = np.arange(12) % 2
FLOATS = np.divide(X, np.float32(255), dtype=np.float32)


def test_uint8_means_pixels_in_the_functional_layer():
    theta = NET.init(0)
    v = np.random.default_rng(1).random(NET.parameter_count, np.float32)
    batches = [fm.Batch(x[None, :6], Y[None, :6], x[None, 6:], Y[None, 6:]) for x in (X, FLOATS)]
    for call in (
        lambda x: fm.predict(NET, theta, x, device="numpy"),
        lambda x: fm.predict(NET, theta, x.tolist() if x.dtype == np.float32 else x, device="numpy"),
        lambda x: fm.loss(NET, theta, x, Y, device="numpy"),
        lambda x: fm.gradient(NET, theta, x, Y, device="numpy")[1],
        lambda x: fm.hvp(NET, theta, v, x, Y, device="numpy"),
        lambda x: fm.adapt(NET, theta, x, Y, 0.1, 3, device="numpy"),
        lambda x: fm.predict(NET, theta, np.stack([x, x]), device="numpy"),
    ):
        np.testing.assert_array_equal(call(X), call(FLOATS))
    gradients = [fm.meta_gradient(NET, theta, batch, 0.1, 2, device="numpy").gradient for batch in batches]
    np.testing.assert_array_equal(*gradients)
    mixed = fm.Batch(X[None, :6], Y[None, :6], FLOATS[None, 6:], Y[None, 6:])
    np.testing.assert_array_equal(mixed.x_support, batches[1].x_support)


@pytest.mark.parametrize("name", ["MAML", "ANIL", "Reptile", "MAMLPlusPlus", "ProtoNet", "Transfer"])
def test_uint8_means_pixels_in_every_learner(name):
    tasks = fm.tasks.from_arrays(X, Y, ways=2, shots=2, queries=3)
    embedding = fm.Network([fm.Flatten(), fm.Linear(6)], (4, 4, 1))
    arguments = {"ProtoNet": {}, "Transfer": {}, "MAMLPlusPlus": {}}.get(name, {"inner_lr": 0.1})
    net = embedding if name == "ProtoNet" else NET
    learner = getattr(fm, name)(net, **arguments, device="numpy").fit(tasks, 2, 2)
    models = [learner.adapt(x[:6], Y[:6]) for x in (X, FLOATS)]
    np.testing.assert_array_equal(models[0].outputs(X[6:]), models[1].outputs(FLOATS[6:]))
    np.testing.assert_array_equal(models[0].predict(X[6:]), models[1].predict(FLOATS[6:]))


def test_uint8_groups_are_pixels_too():
    groups = np.arange(12) // 4
    drawn = [fm.tasks.from_groups(x, Y, groups, 1, 1).sample(3, 0) for x in (X, FLOATS)]
    np.testing.assert_array_equal(drawn[0].x_query, drawn[1].x_query)


# what is no image


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder's name", "huge", "link to nothing", "empty"])
@pytest.mark.parametrize("door", ["folder", "csv", "read_images"])
def test_what_is_no_image_file_is_refused_without_reading_it(tmp_path, kind, door):
    for part in PARTS.values():
        for name in "ab":
            for i in range(2):
                draw(tmp_path / part / f"{part}{name}" / f"{i}.png")
    odd = tmp_path / "train" / "traina" / "odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "link to a device":
        odd.symlink_to("/dev/zero")
    elif kind == "folder's name":
        draw(odd / "inside.png").write_bytes(b"no image")
    elif kind == "huge":
        with odd.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "link to nothing":
        odd.symlink_to(tmp_path / "nothing.png")
    else:
        odd.touch()
    if door == "csv":
        (tmp_path / "train.csv").write_text("filename,label\ntrain/traina/odd.png,a\ntrain/traina/0.png,a\n")
    with pytest.raises((ValueError, FileNotFoundError), match=r"odd\.png"):
        fm.tasks.read_images([odd], SHAPE) if door == "read_images" else images(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
        b"%PDF-1.4\n1 0 obj\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xd7\xcd\xc6\x9a" + bytes(60),  # Windows metafile
    ],
)
@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_no_other_program_is_asked_to_draw(tmp_path, monkeypatch, content, ending):
    def refuse(*arguments, **options):
        raise AssertionError("another program was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    path = tmp_path / f"odd.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"odd\.{ending} must be a whole image file: it is none of PNG, JPEG"):
        fm.tasks.read_images([path], SHAPE)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_damaged_images_give_one_error(tmp_path, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels(2, 16)).save(buffer, form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP") else {}))
    whole, rng, path = buffer.getvalue(), np.random.default_rng(0), tmp_path / "one.img"
    refused = []
    for i in range(100):
        content = bytearray(whole[: rng.integers(len(whole))] if i % 4 == 0 else whole)
        for place in rng.integers(len(content), size=4 if len(content) else 0):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            fm.tasks.read_images([path], SHAPE)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert [one for one in refused if "one.img must be a whole image file: " not in one] == []
