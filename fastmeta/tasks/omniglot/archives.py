"""The official Omniglot archives: what they hold, where they are, how they are fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastmeta.tasks.cache import cache_folder, optional
from fastmeta_kernels.files import written_beside

_SITE = "https://github.com/brendenlake/omniglot/raw/master/python/"


@dataclass(frozen=True)
class Archive:
    """One official archive and what it must hold.

    `digest` is the SHA-256 over the drawings in order of their names "ALPHABET/characterNN/CCCC_DD.png": each
    name, then its pixels as bytes, ink = 0 and paper = 255. So a re-packed or unpacked archive passes too.
    """

    name: str
    characters: int
    digest: str
    url: str
    drawers: int = 20
    side: int = 105


ARCHIVES = (
    Archive(
        "images_background",
        964,
        "1172c636734a347a343ec697dd97c7bf8cf9a0b8585fdc3f06c8e276f3633ecf",
        _SITE + "images_background.zip",
    ),
    Archive(
        "images_evaluation",
        659,
        "e1b2a8d6437057220f345d4babf2b6003a519611bfc141e4d792ed155011bc21",
        _SITE + "images_evaluation.zip",
    ),
)
Root = str | Path | Sequence[str | Path] | None


def locate(root: Root, archives: Sequence[Archive] = ARCHIVES) -> list[Path]:
    """The zip file or folder of each archive, downloaded where root and FASTMETA_OMNIGLOT are not set."""
    name, chosen = "root", root
    if root is None:
        name, chosen = "FASTMETA_OMNIGLOT", os.environ.get("FASTMETA_OMNIGLOT") or None
    if chosen is None:
        return [download(archive, cache_folder() / "omniglot") for archive in archives]
    if not isinstance(chosen, (str, Path)):
        paths = [Path(path) for path in chosen]
        if len(paths) != len(archives):
            wanted = ", ".join(f"{a.name}.zip" for a in archives)
            raise ValueError(f"root={chosen!r} must be a folder or the paths of {wanted}, in this order.")
        for path, archive in zip(paths, archives, strict=True):
            if not path.exists():
                raise FileNotFoundError(f'{name}="{path}" must exist. Download {archive.url} to that place.')
        return paths
    return [_within(name, Path(chosen), archive) for archive in archives]


def _within(name: str, folder: Path, archive: Archive) -> Path:
    for path in (folder / f"{archive.name}.zip", folder / archive.name):
        if path.exists():
            return path
    raise FileNotFoundError(
        f'{name}="{folder}" must hold {archive.name}.zip or the unpacked folder {archive.name}. '
        f"Download {archive.url} into it, or leave root out and fastmeta downloads both archives."
    )


def download(archive: Archive, folder: Path) -> Path:
    """`folder/NAME.zip`, fetched from `archive.url` unless it is there; never left half written."""
    import urllib.request
    from http.client import HTTPException
    from urllib.error import HTTPError

    path = folder / f"{archive.name}.zip"
    if path.exists():
        return path
    tqdm = optional("tqdm", "tqdm").tqdm
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(archive.url, timeout=60) as reply, written_beside(path, durable=True) as file:
            size = int(reply.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=path.name, disable=None) as bar:
                while block := reply.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            if size and file.tell() != size:
                raise OSError(f"it ended after {file.tell()} of {size} bytes")
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the server's answer
        raise ConnectionError(
            f"root=None must be able to download {archive.url} to {folder}, which failed: {error}. Download "
            "the file by other means and give its folder as root or in FASTMETA_OMNIGLOT."
        ) from error
    return path
