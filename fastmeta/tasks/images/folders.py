"""Image files in folders: where they lie in the usual layouts, and what there is no image or class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastmeta.tasks.images.leftovers import is_leftover
from fastmeta.tasks.images.pixels import ENDINGS
from fastmeta.tasks.images.splits import Files, found_by_part
from fastmeta.tasks.images.tables import listed

UNREAD = (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".psd", ".svg", ".dng", ".cr2", ".nef", ".exr")


def find_files(root: Path, names: Mapping[str, Sequence[str]] | None) -> dict[str, Files]:
    """Image files by part and class: of a split by class name, of csv files, or of folders train, val and test.

    Raises FileNotFoundError or ValueError, which names what is missing and the layouts that are understood.
    """
    return _each_once(_found(root, names))


def list_images(root: str | os.PathLike[str]) -> tuple[list[Path], list[str]]:
    """The image files below class folders root/CLASS/*.png, and the class of each: (paths, names), by class.

    Raises FileNotFoundError where there are no such folders, ValueError where one has no images or shares one.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f'root="{os.fspath(root)}" must be a folder of class folders. Give such a folder.')
    classes = _each_once({"": _part_classes(Path(root))})[""]
    return [path for files in classes.values() for path in files], [n for n, files in classes.items() for _ in files]


def _found(root: Path, names: Mapping[str, Sequence[str]] | None) -> dict[str, Files]:
    if names is not None:
        folders = _named_folders(root, [name for chosen in names.values() for name in chosen])
        return {part: _members({name: folders[name] for name in chosen}) for part, chosen in names.items()}
    if tables := found_by_part(root, (".csv",), os.path.isfile):
        return listed(root, tables)
    parts = found_by_part(root, ("",), os.path.isdir)
    if not parts:
        raise FileNotFoundError(
            f'root="{root}" must hold folders train, val and test of class folders; or class folders, of which '
            'split={"train": [names], "validation": [names], "test": [names]} says which are for what; or images and '
            "train.csv, val.csv, test.csv; or files train, val and test as .npz, .h5 or .parquet. Give such a folder."
        )
    return {part: _part_classes(folder) for part, folder in parts.items()}


def _part_classes(folder: Path) -> Files:
    folders = {name: place for name, place in _subfolders(folder).items() if not is_leftover(name)}
    if not folders:
        raise FileNotFoundError(f"{folder} must hold a folder of images for each class. Give such a folder.")
    return _members(folders)


def _subfolders(folder: Path) -> dict[str, Path]:
    return {place.name: place for place in sorted(folder.iterdir()) if place.is_dir()}


def _named_folders(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folders of these classes, all of them in `root`, or all in its folder images or data."""
    places = [place for place in (root, root / "images", root / "data") if place.is_dir()]
    folders = {place: _subfolders(place) for place in places}
    whole = [place for place in places if set(names) <= set(folders[place])]
    if len(whole) > 1:
        raise ValueError(
            f'root="{root}" must hold the classes of split once, not in {" and in ".join(map(str, whole))}. '
            "Give the one that is meant as root."
        )
    if not whole:
        nearest = max(places, key=lambda place: len(set(names) & set(folders[place])))
        missing = [name for name in names if name not in folders[nearest]]
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FileNotFoundError(f'root="{root}" must hold a folder of images for each class of split; not {shown}.')
    return folders[whole[0]]


def _members(folders: Mapping[str, Path]) -> Files:
    """The images of each class folder; a class without any is an error, as it would be missed in silence."""
    found: Files = {}
    unread: list[Path] = []
    for name, folder in folders.items():
        files = sorted(_files(folder))
        found[name] = [path for path in files if path.suffix.lower() in ENDINGS]
        if not found[name]:
            endings = sorted({path.suffix.lower() or path.name for path in files})
            raise ValueError(
                f"{folder} must hold images, as each class folder does, with the endings {' '.join(ENDINGS)}; it has "
                f"{' '.join(endings[:5]) or 'no files'}. Convert the images, or take the folder away."
            )
        unread += [path for path in files if path.suffix.lower() in UNREAD]
    if unread:
        warnings.warn(
            f"{len(unread)} images are left out, such as {unread[0]}: only the endings {' '.join(ENDINGS)} are read. "
            "Convert them.",
            stacklevel=2,
        )
    return found


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Files anywhere below a class folder, also by links; tieredImageNet and Tiny ImageNet have a folder in between."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for entry in os.scandir(folder):
        if is_leftover(entry.name):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), (*above, here))
        else:
            yield Path(entry.path)


def _each_once(parts: dict[str, Files]) -> dict[str, Files]:
    """Each image once in its class; ValueError where one file, or a link to it, is in two classes."""
    homes: dict[tuple[int, int | str], tuple[str, str, Path]] = {}
    once: dict[str, Files] = {}
    for part, files in parts.items():
        once[part] = {name: [] for name in files}
        for name, path in ((name, path) for name, members in files.items() for path in members):
            try:
                about = path.stat()
            except OSError as error:
                raise ValueError(f"{path} must be a readable image file: {error}. Replace or remove it.") from error
            home = homes.setdefault((about.st_dev, about.st_ino or os.path.realpath(path)), (part, name, path))
            if home[:2] != (part, name):
                raise ValueError(
                    f"{path}, of class {name}, must not be the same file as {home[2]}, of class {home[1]}. "
                    "Take one of them away."
                )
            if home[2] is path:
                once[part][name].append(path)
    return once
