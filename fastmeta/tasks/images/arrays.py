"""Labelled images in one file: .npz, HDF5 or Parquet, measured before they are read. Pickles are refused."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmeta.tasks.cache import optional
from fastmeta.tasks.images.folders import decode, resized

IMAGES = ("x", "images", "image", "image_data", "data", "img")
LABELS = ("y", "labels", "label", "fine_label", "fine_labels")
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".npy")
Labelled = tuple[NDArray[Any], NDArray[np.str_]]  # images (n, H, W, C), class names (n,)


def find_array_files(root: Path, stems: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """The files of each part in the folder `root`; ValueError where there are only pickles."""
    found = {
        part: root / f"{stem}{ending}"
        for part, names in stems.items()
        for stem in names
        for ending in READERS
        if (root / f"{stem}{ending}").is_file()
    }
    if not found and root.is_dir():
        for path in sorted(root.iterdir()):
            if path.suffix.lower() in PICKLES[:-1]:
                refuse_pickle(path)
    return found


def read_arrays(path: Path, size: int, most_bytes: int) -> Labelled:
    """Images (n, size, size, C), uint8 or float, and class names (n,) of one file.

    Raises ValueError where the file is a pickle, is damaged, lacks images or labels, or would take more than
    `most_bytes`; ModuleNotFoundError where the library that reads it is missing.
    """
    ending = path.suffix.lower()
    if ending in PICKLES:
        refuse_pickle(path)
    if ending not in READERS:
        raise ValueError(f"{path} must end with one of {', '.join(READERS)}. Convert it to one of these.")
    x, y = READERS[ending](path, size, most_bytes)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or x.dtype.kind not in "fu" or (x.dtype.kind == "u" and x.itemsize > 1):
        raise ValueError(
            f"{path} must hold images (n, height, width, 1 or 3) of uint8 or floats, not {x.shape} of {x.dtype}. "
            "Move the channels to the last axis, for example x.transpose(0, 2, 3, 1), and save it again."
        )
    if y.shape != x.shape[:1]:
        raise ValueError(f"{path} must hold one label an image: {x.shape[:1]}, not {y.shape}. Save it again.")
    if x.shape[1:3] != (size, size):
        x = _resized(x, size, path)
    return x, _names(y)


def refuse_pickle(path: Path) -> None:
    """A ValueError that says how to convert: reading a pickle runs whatever program is in it."""
    raise ValueError(
        f"{path} must not be a pickle: reading one runs whatever program is in it. Where you trust it, convert it "
        "once: d = pickle.load(open(file, 'rb')); x = d['image_data'], which is uint8 (n, H, W, 3); y = an array of n "
        "class names, from d['class_dict'] = {name: [numbers of its images]}; numpy.savez('train.npz', x=x, y=y); "
        "likewise val.npz and test.npz."
    )


def _read_npz(path: Path, size: int, most_bytes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(info.filename).stem: info.filename for info in archive.infolist()}
            chosen = [_one_of(path, names, wanted) for wanted in (IMAGES, LABELS)]
            declared = sum(_declared(archive, names[name], path) for name in chosen)
        _check_size(path, declared, most_bytes)
        with np.load(path, allow_pickle=False) as file:
            x, y = (file[name] for name in chosen)
            return x, y
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} must be a whole .npz file: {error}. Save it again with numpy.savez.") from error


def _declared(archive: zipfile.ZipFile, member: str, path: Path) -> int:
    """Bytes that a member's own header claims: a few bytes can claim any number."""
    with archive.open(member) as opened:
        try:
            version = np.lib.format.read_magic(opened)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read(opened)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{member} in {path} must be a NumPy array: {error}. Save it again.") from error
    if dtype.hasobject:
        refuse_pickle(path)
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def _read_hdf5(path: Path, size: int, most_bytes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    h5py = _library("h5py", "hdf5")
    try:
        with h5py.File(path, "r") as file:
            if "datasets" in file:  # one array a class, by its name
                classes = {name: file["datasets"][name] for name in sorted(file["datasets"])}
                _check_size(path, sum(a.size * a.dtype.itemsize for a in classes.values()), most_bytes)
                x = np.concatenate([array[()] for array in classes.values()])
                return x, np.repeat(np.array(list(classes)), [len(array) for array in classes.values()])
            arrays = [file[_one_of(path, file, wanted)] for wanted in (IMAGES, LABELS)]
            _check_size(path, sum(a.size * a.dtype.itemsize for a in arrays), most_bytes)
            labels = arrays[1].asstr()[()] if h5py.check_string_dtype(arrays[1].dtype) else arrays[1][()]
            return arrays[0][()], np.asarray(labels, "U" if labels.dtype.kind == "O" else None)
    except (OSError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} must be a whole HDF5 file of arrays: {error}. Save it again.") from error


def _read_parquet(path: Path, size: int, most_bytes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    parquet, arrow = _library("pyarrow.parquet", "parquet"), _library("pyarrow", "parquet")
    try:
        file = parquet.ParquetFile(path)
        image, label = (_one_of(path, file.schema_arrow.names, wanted) for wanted in (IMAGES, LABELS))
        rows = file.metadata.num_rows
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        _check_size(path, rows * size * size * 3 + sum(group.total_byte_size for group in groups), most_bytes)
        x = np.empty((rows, size, size, 3), np.uint8)
        labels: list[Any] = []
        for batch in file.iter_batches(256, columns=[image, label]):
            for row, cell in enumerate(batch.column(image).to_pylist(), len(labels)):
                content = cell.get("bytes") if isinstance(cell, dict) else cell
                if not isinstance(content, bytes):
                    raise ValueError(f"{path} must hold image files in {image}; row {row} has {type(content)}.")
                x[row] = decode(content, f"row {row} of {path}", size)
            labels += batch.column(label).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a whole Parquet file: {error}. Save it again.") from error
    words = _label_words(file.schema_arrow.metadata, label)
    return x, np.array([words[n] for n in labels] if words else labels)


def _label_words(metadata: dict[bytes, bytes] | None, column: str) -> Sequence[str]:
    """The names of a column's numbers, where the file keeps them as Hugging Face's files do."""
    described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    names: Sequence[str] = described.get("info", {}).get("features", {}).get(column, {}).get("names", [])
    return names


READERS: dict[str, Callable[[Path, int, int], tuple[NDArray[Any], NDArray[Any]]]] = {
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".parquet": _read_parquet,
}


def _one_of(path: Path, names: Any, wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(f"{path} must hold {' or '.join(wanted)}; it has {', '.join(map(str, names))}. Rename it so.")


def _check_size(path: Path, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ValueError(
            f"{path} must take at most {most_bytes / 2**30:.3g} GiB in memory; it would take {size / 2**30:.3g}. "
            "Raise largest_gib where that is right, or unpack it into folders of images, which are read as they go."
        )


def _resized(x: NDArray[Any], size: int, path: Path) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise ValueError(f"{path} has float images of {x.shape[1:3]}, which must be {size} pixels square. Resize them.")
    pillow = optional("PIL.Image", "Pillow")
    images = (pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in x)
    return np.stack([resized(image, size) for image in images])


def _names(labels: NDArray[Any]) -> NDArray[np.str_]:
    """Labels as names."""
    if labels.dtype.kind in "iu":
        return labels.astype(str)
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8")
    if labels.dtype.kind != "U":
        raise ValueError(f"labels of dtype {labels.dtype} must be whole numbers or names. Save them as such.")
    return labels


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        raise ModuleNotFoundError(
            f'This file needs {name}, which is not installed: pip install "fastmeta[{extra}]".'
        ) from error
