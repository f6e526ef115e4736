"""Image data files that are damaged, or made to read other files or to fill the memory, give one clear error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastmeta as fm
from tests.tasks.pictures import pixels

h5py = pytest.importorskip("h5py", reason="h5py is an optional extra")
pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional extra")
parquet = pytest.importorskip("pyarrow.parquet")

N, SIZE = 12, 8
X = np.stack([pixels(i) for i in range(N)])
Y = np.repeat(np.arange(4), 3)
NAMES = np.array(["ant", "bee", "cat", "dog"])[Y]
SPLIT = {"train": ["0", "1"], "test": ["2", "3"]}
NAMED = {"train": ["ant", "bee"], "test": ["cat", "dog"]}


def read(path: Path, split=SPLIT, **options) -> fm.tasks.Images:
    return fm.tasks.Images(path, ways=2, shots=1, queries=1, split=split, **{"image_size": SIZE} | options)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


# .npz: the member that is measured is the one that is read

BOMB = ("x.npy", npy(np.zeros((N, 800, 800, 1), np.uint8)))  # 7.3 MiB
SMALL = npy(np.zeros((N, SIZE, SIZE, 1), np.uint8))
LABELS = ("y.npy", npy(Y))


@pytest.mark.parametrize(
    "members",
    [
        [BOMB, ("a/x.npy", SMALL), LABELS],
        [("a/x.npy", SMALL), BOMB, LABELS],
        [BOMB, ("x", SMALL), LABELS],
        [("x.npy/", b""), BOMB, LABELS],
        [("X.npy", SMALL), BOMB, LABELS],
        [("images.npy", SMALL), BOMB, LABELS],
        [BOMB, LABELS, ("b/y.npy", npy(Y)), ("./x.npy", SMALL)],
        [("x.npy", SMALL), ("y.npy", npy(Y.astype("U900000")))],
        [("x.npy", npy(np.zeros((N, 100, 100, 1), np.float64))), LABELS],
    ],
)
def test_no_member_escapes_the_limit(tmp_path, members):
    path = zipped(tmp_path / "a.npz", *members)
    with pytest.raises(ValueError, match=r"a\.npz must take at most 0\.0005 GiB in memory"):
        read(path, largest_gib=0.0005)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("first", "second"), [(SMALL, BOMB[1]), (BOMB[1], SMALL), (SMALL, SMALL)])
def test_a_member_of_the_same_name_twice_is_refused(tmp_path, first, second):
    path = zipped(tmp_path / "a.npz", ("x.npy", first), ("x.npy", second), LABELS)
    with pytest.raises(ValueError, match=r"a\.npz must hold x once"):
        read(path)


def test_a_header_that_fills_the_memory_is_refused(tmp_path):
    header = b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b" " * (1 << 24)
    with pytest.raises(ValueError, match=r"a\.npz must hold x with a header of at most 10,000 bytes"):
        read(zipped(tmp_path / "a.npz", ("x.npy", header), LABELS))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((N, 8, 8, 3), np.int32), Y, "must hold images of uint8, uint16 or floats, not of int32. Save pixels"),
        (np.zeros((N, 8, 8, 3), np.complex64), Y, "not of complex64"),
        (np.zeros((N, 8, 8, 3), "U3"), Y, "not of <U3"),
        (np.zeros((N, 3, 8, 8), np.uint8), Y, r"Move the channels to the last axis"),
        (np.zeros((N, 8, 8, 4), np.uint8), Y, r"must hold images \(n, height, width, 1 or 3\)"),
        (np.zeros((N, 0, 8, 3), np.uint8), Y, r"must hold images \(n, height, width, 1 or 3\)"),
        (np.zeros((N, 192), np.uint8), Y, r"must hold images \(n, height, width, 1 or 3\)"),
        (X, Y.astype(float), "labels that are whole numbers or names, not of dtype float64. Save them as y.astype"),
        (X, Y > 1, "whole numbers or names, not of dtype bool"),
        (X, np.array(NAMES, object), "y in .* must not be a pickle, .* labels as whole numbers or numpy.array"),
        (X, Y[:5], r"must hold one label an image: \(12,\), not \(5,\)"),
        (X, Y[:, None], r"must hold one label an image: \(12,\), not \(12, 1\)"),
        (X, np.array(["a" * 2000] * N), "names of at most 1,000 characters"),
    ],
)
@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_other_dtypes_and_shapes_get_a_message_that_fits(tmp_path, x, y, message, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".npz":
        np.savez(path, x=x, y=y)
    else:
        if y.dtype.kind in "OU" or x.dtype.kind == "U":
            pytest.skip("HDF5 keeps these otherwise")
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = x, y
    with pytest.raises(ValueError, match=message):
        read(path)


# HDF5: no other file, no circle


def write_private(folder: Path) -> None:
    (folder / "private.bin").write_bytes(b"SECRET" * 4000)
    os.mkfifo(folder / "pipe")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"], file["y"], file["names"] = X, Y, NAMES.tolist()


def external(file, name="x", shape=(N, SIZE, SIZE, 3)):
    del file[name]
    file.create_dataset(name, shape=shape, dtype="u1", external=[("private.bin", 0, int(np.prod(shape)))])


def virtual(file):
    del file["x"]
    layout = h5py.VirtualLayout((N, SIZE, SIZE, 3), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "x", (N, SIZE, SIZE, 3))
    file.create_virtual_dataset("x", layout)


def linked(name, link):
    def change(file):
        if name in file:
            del file[name]
        file[name] = link

    return change


def in_classes(link):
    def change(file):
        del file["x"], file["y"]
        file["datasets/a"], file["datasets/b"] = X[:6], link

    return change


def group_in_itself(file):
    del file["x"], file["y"]
    file["datasets/a"] = X
    file["datasets/b"] = file["datasets"]


LINKS = {
    "external storage": external,
    "external storage of labels": lambda file: external(file, "y", (N,)),
    "external storage of a pipe": lambda file: (
        file.move("x", "old"),
        file.create_dataset("x", shape=(N, SIZE, SIZE, 3), dtype="u1", external=[("pipe", 0, N * SIZE * SIZE * 3)]),
    ),
    "virtual": virtual,
    "external link": linked("x", h5py.ExternalLink("other.h5", "/x")),
    "external link of labels": linked("y", h5py.ExternalLink("other.h5", "/y")),
    "external link to a pipe": linked("x", h5py.ExternalLink("pipe", "/x")),
    "external link to itself": linked("x", h5py.ExternalLink("a.h5", "/x")),
    "external link of the classes": linked("datasets", h5py.ExternalLink("other.h5", "/")),
    "external link to a pipe of the classes": linked("datasets", h5py.ExternalLink("pipe", "/")),
    "external link in the classes": in_classes(h5py.ExternalLink("other.h5", "/x")),
    "soft link to itself": linked("y", h5py.SoftLink("/y")),
    "soft link to nothing": linked("x", h5py.SoftLink("/nothing")),
    "soft links in a circle": lambda file: (
        linked("x", h5py.SoftLink("/z"))(file),
        linked("z", h5py.SoftLink("/x"))(file),
    ),
    "soft link through an external one": lambda file: (
        linked("out", h5py.ExternalLink("other.h5", "/"))(file),
        linked("x", h5py.SoftLink("/out/x"))(file),
    ),
    "group in itself": group_in_itself,
    "group for an array": linked("x", np.dtype("u1")),
}


@pytest.mark.parametrize("kind", LINKS)
def test_hdf5_reads_no_other_file(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_private(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["x"], file["y"] = X, Y
        LINKS[kind](file)
    with pytest.raises(ValueError, match=r"a\.h5 must hold \w+ (itself, not a link|as a (dataset|group))"):
        read(Path("a.h5"))


@pytest.mark.parametrize("link", ["hard link", "soft link"])
def test_one_array_is_not_two_classes(tmp_path, link):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["datasets/a"] = X[:6]
        file["datasets/b"] = file["datasets/a"] if link == "hard link" else h5py.SoftLink("/datasets/a")
    with pytest.raises(ValueError, match=r"a\.h5 must hold (other images in each class|b itself, not a link)"):
        read(tmp_path / "a.h5", {"train": ["a", "b"]})


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
@pytest.mark.parametrize("split", [None, SPLIT])
def test_a_root_that_is_no_file_is_refused(tmp_path, kind, split):
    root = Path("/dev/zero") if kind == "device" else tmp_path / "a.npz"
    if kind == "pipe":
        os.mkfifo(root)
    elif kind == "link to a device":
        root.symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError, match="must be a folder or a file"):
        read(root, split)


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint16"])
def test_numpy_s_error_state_changes_nothing(tmp_path, dtype):
    x = np.zeros((4, 12, 12, 1))
    x[:, :6] = 1e-50 if dtype == "float64" else 1
    np.savez(tmp_path / "a.npz", x=x.astype(dtype), y=[0, 0, 1, 1])
    found = []
    for state in ("ignore", "raise"):
        with np.errstate(all=state):
            found.append(read(tmp_path / "a.npz", {"train": ["0", "1"]}).train.x)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (5,)},
        {"chunks": (5,), "maxshape": (None,)},
        {"dtype": h5py.string_dtype("ascii")},
        {"data": NAMES.astype("S3"), "dtype": None},
    ],
)
@pytest.mark.parametrize("block", [0, 512])
@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_names_of_any_length_are_read(tmp_path, options, block, version):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=block, libver=version) as file:
        file["x"] = X
        file.create_dataset("y", **{"data": NAMES.astype(object), "dtype": h5py.string_dtype()} | options)
    source = read(tmp_path / "a.h5", NAMED)
    np.testing.assert_array_equal(source.test.x, X[6:])


def test_names_that_share_their_room_do_not_fill_the_memory(tmp_path):
    """2,000 references to one name of 6 MB, and one of a length that no file has."""
    for name, change in (("shared", None), ("claimed", 0xF0000000)):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros((2000, 1, 1, 1), np.uint8)
            names = file.create_dataset("y", 2000, h5py.string_dtype())
            names[0] = "a" * 6_000_000 if change is None else "a"
            start = names.id.get_offset()
        content = bytearray(path.read_bytes())
        first = content[start : start + 16]
        if change is not None:
            first[:4] = change.to_bytes(4, "little")
        content[start : start + 16 * 2000] = bytes(first) * 2000
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must hold names of at most 1,000 bytes"):
            read(path, {"train": ["a"]}, image_size=1)


def test_compressed_names_and_enormous_chunks_are_refused(tmp_path):
    with h5py.File(tmp_path / "names.h5", "w") as file:
        file["x"] = X
        file.create_dataset("y", data=NAMES.tolist(), compression="gzip")
    with pytest.raises(ValueError, match=r"names\.h5 must hold its names uncompressed"):
        read(tmp_path / "names.h5", NAMED)
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        shape, chunk = (N, SIZE, SIZE, 1), (N, 3000, 3000, 1)
        file.create_dataset("x", shape, "u1", chunks=chunk, maxshape=(None, None, None, 1), compression="gzip")
        file["y"] = Y
    with pytest.raises(ValueError, match=r"chunk\.h5 must take at most 0\.05 GiB"):
        read(tmp_path / "chunk.h5", largest_gib=0.05)


# Parquet: what a page expands to

CELL = png(pixels(1)) + bytes(6_000_000)
ONE = pa.array([0] * 60, pa.int32())
DELTA = {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}}
ROWS = np.repeat(np.arange(4), 15)


def repeated(value):
    return pa.DictionaryArray.from_arrays(ONE, pa.array([value]))


EXPANDING = {
    "dictionary": (lambda: repeated(CELL), ROWS, {}),
    "dictionary of large values": (lambda: repeated(CELL).cast(pa.large_binary()), ROWS, {}),
    "dictionary in a struct": (
        lambda: pa.StructArray.from_arrays([pa.array([CELL[:300]] * 60), repeated("p" * 6_000_000)], ["bytes", "path"]),
        ROWS,
        {},
    ),
    "shared beginnings": (lambda: pa.array([CELL] * 60), ROWS, DELTA),
    "labels": (lambda: pa.array([CELL[:300]] * 60), repeated("0" * 6_000_000), {}),
}
PROGRAM = """
import resource, sys
import fastmeta as fm
import PIL.Image, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
split = {"train": ["0", "1"], "test": ["2", "3"]}
try:
    fm.tasks.Images(sys.argv[1], image_size=8, split=split, ways=2, queries=1, largest_gib=0.1)
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.parametrize("kind", EXPANDING)
def test_values_that_expand_do_not_fill_the_memory(tmp_path, kind):
    cells, labels, options = EXPANDING[kind]
    writing = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 1 << 30, **options}
    parquet.write_table(pa.table({"image": cells(), "label": labels}), tmp_path / "a.parquet", **writing)
    assert os.path.getsize(tmp_path / "a.parquet") < 200_000
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "a.parquet")]
    # a process of its own, begun by a small one: a child's peak begins at its parent's
    shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout.split()[-1]) < 250, done.stdout


@pytest.mark.parametrize(
    ("cells", "labels", "message"),
    [
        ([None] * N, Y, "row 0 of .* must hold an image file in image, not NoneType"),
        (["text"] * N, Y, "row 0 of .* must hold an image file in image, not str"),
        ([b"no image"] * N, Y, "row 0 of .* must be a whole image file"),
        ([png(X[0])] * N, [None] * N, "row 0 of .* must have a label that is a whole number or a short name"),
        ([png(X[0])] * N, [1.5] * N, "row 0 of .* must have a label"),
        ([png(X[0])] * N, [[1, 2], [3]] * 6, "row 0 of .* must have a label"),
        ([png(X[0])] * N, [True] * N, "row 0 of .* must have a label"),
        ([png(X[0])] * N, ["a" * 2000] * N, "row 0 of .* must have a label"),
    ],
)
def test_rows_that_are_no_labelled_images_are_named(tmp_path, cells, labels, message):
    parquet.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("number", [-1, 4, 10**6])
def test_numbers_without_a_name_are_refused(tmp_path, number):
    table = pa.table({"image": [png(x) for x in X], "label": [number, *Y[1:].tolist()]})
    described = '{"info": {"features": {"label": {"names": ["ant", "bee", "cat", "dog"]}}}}'
    parquet.write_table(table.replace_schema_metadata({"huggingface": described}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 0 of .* must have a label of 0 \.\. 3, as the file names so many"):
        read(tmp_path / "a.parquet", NAMED)


# damage of any kind


def whole_files(folder: Path) -> dict[str, tuple[Path, dict]]:
    made = {name: folder / name for name in ("a.npz", "a.h5", "names.h5", "classes.h5", "packed.h5", "a.parquet")}
    np.savez_compressed(made["a.npz"], x=X, y=Y)
    with h5py.File(made["a.h5"], "w") as file:
        file["x"], file["y"] = X, Y
    with h5py.File(made["names.h5"], "w") as file:
        file["x"], file["y"] = X, NAMES.tolist()
    with h5py.File(made["classes.h5"], "w") as file:
        for name in NAMED["train"] + NAMED["test"]:
            file[f"datasets/{name}"] = X[np.equal(NAMES, name)]
    with h5py.File(made["packed.h5"], "w") as file:
        file.create_dataset("x", data=X, chunks=(4, SIZE, SIZE, 3), compression="gzip", shuffle=True)
        file["y"] = Y
    parquet.write_table(pa.table({"image": [png(x) for x in X], "label": Y}), made["a.parquet"])
    return {n: (path, NAMED if n in ("names.h5", "classes.h5") else SPLIT) for n, path in made.items()}


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "names.h5", "classes.h5", "packed.h5", "a.parquet"])
def test_damaged_files_give_one_error(tmp_path, name):
    path, split = whole_files(tmp_path)[name]
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    read(path, split)
    refused = []
    for i in range(150):
        content = bytearray(whole[: rng.integers(len(whole))] if i % 4 == 0 else whole)
        for place in rng.integers(len(content), size=rng.integers(1, 20) if content else 0):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read(path, split, largest_gib=0.05)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert [one for one in refused if not any(word in one for word in (name, "split"))] == []
