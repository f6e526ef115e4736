"""Names of any length in HDF5, read here: on damaged ones the library waits for ever or takes all memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from fastmeta.tasks.images.described import LONGEST_LABEL
from fastmeta.tasks.images.pixels import RefusedError

REFERENCE = struct.Struct("<IQI")  # length, place of the collection, number of the object in it
COLLECTION = struct.Struct("<8sQ")  # signature and version, size of all
OBJECT = struct.Struct("<H6xQ")  # number, 0 for what is left free; size, which for 0 counts this head too
SIGNATURE = b"GCOL\x01\0\0\0"
Objects = dict[int, tuple[int, int]]  # where each begins and how long it is, by number


def read_names(path: Path, array: Any) -> list[str]:
    """The strings of a dataset (n,) of variable-length strings (HDF5 File Format 3.0, sections III.E and VIII).

    Raises RefusedError where they are compressed, longer than a label, or damaged.
    """
    if array.id.get_create_plist().get_nfilters() or array.file.id.get_create_plist().get_sizes() != (8, 8):
        raise RefusedError(f"{path} must hold its names uncompressed. Save them as file['y'] = names.")
    base = array.file.userblock_size
    names: dict[bytes, str] = {}
    collections: dict[int, Objects] = {}
    found = []
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        for place in _places(array):
            length, heap, number = REFERENCE.unpack_from(content, place)
            if length > LONGEST_LABEL:
                raise RefusedError(f"{path} must hold names of at most {LONGEST_LABEL:,} bytes. Shorten them.")
            if heap not in collections:
                collections[heap] = _objects(content, base + heap)
            begin, size = collections[heap][number] if length else (0, 0)
            if length > size:
                raise ValueError("a name is longer than its room")
            name = content[begin : begin + length]
            found.append(names.setdefault(name, name.decode("utf-8")))
    if len(found) < len(array):
        raise ValueError("some of its names were never written")
    return found


def _places(array: Any) -> Iterator[int]:
    """Where each string's reference lies in the file."""
    if array.chunks is None:
        start = array.id.get_offset()
        yield from range(start, start + len(array) * REFERENCE.size, REFERENCE.size)
        return
    chunks = [array.id.get_chunk_info(i) for i in range(array.id.get_num_chunks())]
    for chunk in sorted(chunks, key=lambda chunk: chunk.chunk_offset):
        rows = min(array.chunks[0], len(array) - chunk.chunk_offset[0])
        yield from range(chunk.byte_offset, chunk.byte_offset + rows * REFERENCE.size, REFERENCE.size)


def _objects(content: mmap, start: int) -> Objects:
    signature, size = COLLECTION.unpack_from(content, start)
    place, end = start + COLLECTION.size, start + size
    if signature != SIGNATURE or end > len(content):
        raise ValueError("a collection of names is damaged")
    objects: Objects = {}
    while place + OBJECT.size <= end:
        number, length = OBJECT.unpack_from(content, place)
        if number == 0:
            break
        place += OBJECT.size
        objects[number] = place, min(length, end - place)
        place += -(-length // 8) * 8
    return objects
