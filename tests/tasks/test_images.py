"""Image folders, csv layouts and array files: every layout gives the same tasks, and bad files are named."""

from __future__ import annotations

import csv
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastmeta as fm
from fastmeta.tasks.images import decoded
from fastmeta.tasks.images.pixels import read_file
from fastmeta.tasks.images.splits import published_split
from fastmeta.tasks.parts import PARTS

SIZE, PER_CLASS = 8, 4
CLASSES = {"train": ("ant", "bee", "cat"), "validation": ("dog", "eel"), "test": ("fox", "gnu")}
STEM = {"train": "train", "validation": "val", "test": "test"}
SIZES = {"ways": 2, "shots": 1, "queries": 2, "image_size": SIZE}


def images(name: str) -> np.ndarray:
    """The (PER_CLASS, SIZE, SIZE, 3) images of a class: random, different for each."""
    seed = int.from_bytes(name.encode()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (PER_CLASS, SIZE, SIZE, 3)).astype(np.uint8)


def save_images(folder: Path, name: str, prefix: str = "") -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"{prefix}{i}.png" for i in range(PER_CLASS)]
    for file, pixels in zip(files, images(name), strict=True):
        Image.fromarray(pixels).save(folder / file)
    return files


def part_folders(root: Path) -> None:
    for part, names in CLASSES.items():
        for name in names:
            save_images(root / STEM[part] / name, name)


def class_folders(root: Path) -> None:
    for names in CLASSES.values():
        for name in names:
            save_images(root / "data" / name, name)


def csv_layout(root: Path) -> None:
    for part, names in CLASSES.items():
        with (root / f"{STEM[part]}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["filename", "label"])
            for name in names:
                rows.writerows([f, name] for f in save_images(root / "images", name, name))


def stacked(part: str) -> tuple[np.ndarray, np.ndarray]:
    names = CLASSES[part]
    return np.concatenate([images(n) for n in names]), np.repeat(np.array(names), PER_CLASS)


def npz_files(root: Path) -> None:
    for part in CLASSES:
        x, y = stacked(part)
        np.savez_compressed(root / f"{STEM[part]}.npz", image_data=x, labels=y)


def hdf5_files(root: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra")
    for part, names in CLASSES.items():
        with h5py.File(root / f"{STEM[part]}.h5", "w") as file:
            file["x"], file["y"] = stacked(part)[0], [n for n in names for _ in range(PER_CLASS)]


def hdf5_groups(root: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra")
    for part, names in CLASSES.items():
        with h5py.File(root / f"{STEM[part]}.hdf5", "w") as file:
            for name in names:
                file[f"datasets/{name}"] = images(name)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def parquet_files(root: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
    parquet = pytest.importorskip("pyarrow.parquet")
    for part in CLASSES:
        x, y = stacked(part)
        table = pa.table({"image": [{"bytes": png(pixels), "path": None} for pixels in x], "label": y.tolist()})
        parquet.write_table(table, root / f"{STEM[part]}.parquet")


LAYOUTS = [part_folders, csv_layout, npz_files, hdf5_files, hdf5_groups, parquet_files]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_gives_the_same_tasks(tmp_path, layout):
    root = tmp_path / "root"
    root.mkdir()
    layout(root)
    source = fm.tasks.Images(root, **SIZES)
    assert source.classes == CLASSES
    for part in PARTS:
        x, y = stacked(part)
        _, numbers = np.unique(y, return_inverse=True)
        expected = fm.tasks.from_arrays(x, numbers, 2, 1, 2).sample(5, seed=3)
        drawn = getattr(source, part).sample(5, seed=3)
        np.testing.assert_array_equal(drawn.x_query, expected.x_query)
        np.testing.assert_array_equal(drawn.x_support, expected.x_support)
        assert type(drawn.x_query) is np.ndarray
        assert drawn.x_query.dtype == np.float32


def test_class_folders_with_a_split_by_name(tmp_path):
    class_folders(tmp_path / "root")
    source = fm.tasks.Images(tmp_path / "root", split=CLASSES, **SIZES)
    assert source.classes == CLASSES
    np.testing.assert_array_equal(source.test.x, stacked("test")[0])
    assert "classes: 3 train, 2 validation, 2 test" in repr(source)
    with pytest.raises(FileNotFoundError, match=r'or class folders, of which split=\{"train": \[names\]'):
        fm.tasks.Images(tmp_path / "root", **SIZES)
    with pytest.raises(TypeError, match=r"split=0\.2 must be class names by part\. Give"):
        fm.tasks.Images(tmp_path / "root", split=0.2, **SIZES)


def test_one_file_with_a_split_by_name(tmp_path):
    parts = [stacked(part) for part in CLASSES]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    np.savez(tmp_path / "all.npz", x=x, y=y)
    source = fm.tasks.Images(tmp_path / "all.npz", split=CLASSES, **SIZES)
    np.testing.assert_array_equal(source.validation.x, stacked("validation")[0])
    with pytest.raises(ValueError, match="split=None must be a split by class name where root is one file"):
        fm.tasks.Images(tmp_path / "all.npz", **SIZES)
    with pytest.raises(ValueError, match="must hold images of each class of split; not yak"):
        fm.tasks.Images(tmp_path / "all.npz", split={"train": ["ant", "yak"]}, **SIZES)


def test_parquet_numbers_get_the_names_that_the_file_keeps(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [name for part in CLASSES.values() for name in part]
    x = np.concatenate([images(name) for name in names])
    table = pa.table({"img": [png(p) for p in x], "fine_label": np.repeat(np.arange(len(names)), PER_CLASS)})
    described = '{"info": {"features": {"fine_label": {"names": ["' + '", "'.join(names) + '"]}}}}'
    parquet.write_table(table.replace_schema_metadata({"huggingface": described}), tmp_path / "cifar.parquet")
    source = fm.tasks.Images(tmp_path / "cifar.parquet", split=CLASSES, **SIZES)
    np.testing.assert_array_equal(source.test.x, stacked("test")[0])


def test_images_of_other_sizes_and_modes_are_resized(tmp_path):
    for part, name in (("train", "ant"), ("train", "bee"), ("test", "fox"), ("test", "gnu")):
        folder = tmp_path / "root" / part / name / "images"
        folder.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((20 + i, 11), 40 * i, np.uint8)).save(folder / f"{i}.JPEG")
    source = fm.tasks.Images(tmp_path / "root", **SIZES)
    assert source.train.x.shape == (6, SIZE, SIZE, 3)
    np.testing.assert_array_equal(source.train.x[:, 0, 0, 0], [0, 40, 80] * 2)
    with pytest.raises(ValueError, match="has no validation part, only train, test"):
        _ = source.validation


def test_the_cache_is_used_and_repaired_and_follows_the_files(tmp_path, own_cache, monkeypatch):
    root = tmp_path / "root"
    part_folders(root)
    first = fm.tasks.Images(root, **SIZES).train.x.copy()
    calls: list[Path] = []
    monkeypatch.setattr(decoded, "read_file", lambda path, shape: calls.append(path) or read_file(path, shape))
    np.testing.assert_array_equal(fm.tasks.Images(root, **SIZES).train.x, first)
    assert calls == []
    for path in own_cache.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(fm.tasks.Images(root, **SIZES).train.x, first)
    assert len(calls) == 7 * PER_CLASS
    Image.fromarray(images("yak")[0]).save(root / "train" / "ant" / "0.png")
    np.testing.assert_array_equal(fm.tasks.Images(root, **SIZES).train.x[0], images("yak")[0])


@pytest.mark.parametrize("name", ["miniimagenet", "cifar-fs"])
def test_published_splits_are_64_16_and_20_classes(name):
    split = published_split(name)
    assert [len(split[part]) for part in PARTS] == [64, 16, 20]
    assert len({c for names in split.values() for c in names}) == 100
    some = {"miniimagenet": ("n01532829", "n01855672", "n01930112"), "cifar-fs": ("apple", "otter", "baby")}[name]
    assert all(c in split[part] for c, part in zip(some, PARTS, strict=True))


# bad input


def test_parts_that_share_classes_are_refused(tmp_path):
    part_folders(tmp_path / "root")
    save_images(tmp_path / "root" / "test" / "bee", "bee")
    with pytest.raises(ValueError, match=r"between train and test: both have bee\. Give every"):
        fm.tasks.Images(tmp_path / "root", **SIZES)
    with pytest.raises(ValueError, match="split must not share classes between train and test: both have ant"):
        fm.tasks.Images(tmp_path / "root", split={"train": ["ant"], "test": ["ant"]}, **SIZES)
    for stem in ("train", "test"):
        np.savez(tmp_path / f"{stem}.npz", x=stacked("train")[0], y=np.repeat(np.arange(3), PER_CLASS))
    with pytest.raises(ValueError, match=r"both have 0, 1, 2.*where each file numbers its classes from 0"):
        fm.tasks.Images(tmp_path, **SIZES)


@pytest.mark.parametrize("name", ["train.pkl", "mini-imagenet-cache-train.pkl", "train.pt"])
def test_pickles_are_refused_and_never_read(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was read",))

    root = tmp_path / "root"
    root.mkdir()
    (root / name).write_bytes(pickle.dumps(Bomb()))
    for place in (root, root / name):
        with pytest.raises(ValueError, match=r"must not be a pickle: .*convert it once: .*numpy\.savez\('train\.npz'"):
            fm.tasks.Images(place, split=CLASSES, **SIZES)
    np.savez(root / "train.npz", x=np.array([Bomb()], object), y=np.zeros(1, int), allow_pickle=True)
    (root / name).unlink()
    with pytest.raises(ValueError, match="must not be a pickle"):
        fm.tasks.Images(root, **SIZES)


def test_a_small_file_that_claims_to_be_enormous_is_refused(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000, 84, 84, 3), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        archive.writestr("y.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match="must take at most 16 GiB in memory; it would take 356"):
        fm.tasks.Images(tmp_path, **SIZES)


def test_an_archive_is_measured_before_it_is_expanded(tmp_path):
    npz_files(tmp_path)
    x, y = stacked("train")
    whole = (x.nbytes + y.nbytes) / 2**30
    with pytest.raises(ValueError, match=r"train\.npz must take at most 1\.1e-06 GiB in memory; it would take"):
        fm.tasks.Images(tmp_path, largest_gib=1.1e-6, **SIZES)
    assert fm.tasks.Images(tmp_path, largest_gib=whole, **SIZES).classes == CLASSES
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("x", (10**8, 84, 84, 3), np.uint8, chunks=(1, 84, 84, 3))
        file["y"] = np.zeros(3)
    with pytest.raises(ValueError, match="must take at most 16 GiB in memory"):
        fm.tasks.Images(tmp_path / "huge.h5", split=CLASSES, **SIZES)


def test_an_image_of_enormous_size_is_refused(tmp_path):
    part_folders(tmp_path / "root")
    Image.new("1", (9000, 9000)).save(tmp_path / "root" / "train" / "ant" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png must be a whole image file: it has 9000 x 9000 pixels, more than"):
        fm.tasks.Images(tmp_path / "root", **SIZES)


def test_damaged_files_are_named(tmp_path):
    part_folders(tmp_path / "root")
    broken = tmp_path / "root" / "train" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"bee.1\.png must be a whole image file"):
        fm.tasks.Images(tmp_path / "root", **SIZES)
    (tmp_path / "all.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"all\.npz must be a whole \.npz file"):
        fm.tasks.Images(tmp_path / "all.npz", split=CLASSES, **SIZES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": 0}, "must hold x or images .*; it has pictures. Rename it so"),
        ({"x": np.zeros((3, 5, 5, 7), np.uint8), "y": np.arange(3)}, r"not \(3, 5, 5, 7\) of uint8. Move the channels"),
        ({"x": np.zeros((3, 5, 5, 3), np.int64), "y": np.arange(3)}, "uint16 or floats, not of int64. Save"),
        ({"x": np.zeros((3, 5, 5, 3), np.uint8), "y": np.arange(4)}, r"one label an image: \(3,\), not \(4,\)"),
        ({"x": np.full((3, 5, 5, 3), 255.0), "y": np.arange(3)}, r"float pixels must be in 0 \.\. 1, not 255 \.\. 255"),
        ({"x": np.zeros((3, 8, 8, 3)), "y": np.ones(3)}, "whole numbers or names, not of dtype float64"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        fm.tasks.Images(tmp_path, **SIZES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,class\na.png,ant\n", "must begin with the columns filename,label; it has"),
        ("filename,label\na.png\n", "must have a filename and a label in line 2"),
        ("filename,label\n../a.png,ant\n", r"must name files within its folder, not \.\./a\.png"),
        ("filename,label\na.png,ant\n", r"names a\.png, which must lie below"),
    ],
)
def test_bad_csv_files(tmp_path, table, message):
    (tmp_path / "train.csv").write_text(table)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fm.tasks.Images(tmp_path, **SIZES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "mini"}, 'split="mini" must be one of "miniimagenet", "cifar-fs"'),
        ({"split": {"tests": ["ant"]}}, 'split="tests" must be one of .* Did you mean "test"'),
        ({"split": {"train": "ant"}}, r'split\["train"\]="ant" must be several class names'),
        ({"split": "cifar-fs"}, "must hold a folder of images for each class of split; not .* and 93 more"),
        ({"image_size": 0}, "image_size=0 must be at least 1"),
        ({"largest_gib": 0}, "largest_gib=0 must be positive"),
        ({"ways": 1}, "ways=1 must be at least 2"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    class_folders(tmp_path / "root")
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        fm.tasks.Images(tmp_path / "root", **SIZES | changes)


def test_folders_that_are_no_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'root=".*nowhere" must exist'):
        fm.tasks.Images(tmp_path / "nowhere", **SIZES)
    with pytest.raises(FileNotFoundError, match="must hold folders train, val and test of class folders; or"):
        fm.tasks.Images(tmp_path, **SIZES)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="train must hold a folder of images for each class"):
        fm.tasks.Images(tmp_path, **SIZES)
