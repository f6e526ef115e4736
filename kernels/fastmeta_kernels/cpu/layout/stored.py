"""Stored programs: what a library runs for programs in other languages, as words of one file.

A file is a header, then parameters, rates and, for each width of vectors, the instructions that adapt to one task's
samples and those that predict. Offsets are bytes from its beginning, which lies at a multiple of 64.
"""

from __future__ import annotations

from fastmeta_kernels.cpu.layout.record import record_of, row_as

MAGIC = int.from_bytes(b"FASTMETA", "little")
FORMAT = 1
WIDTHS = (16, 32, 64)  # bytes of a vector
OFFSET, PRIME, SUMMED = -3750763034362895579, 1099511628211, 2  # FNV-1a over the words behind the first two

# work: bytes that a caller gives, zeroed, at a multiple of 64: a job, then what each program needs.
HEADER = record_of("magic sum stamp format bytes parameters samples queries inputs outputs labels work theta rates")
# Of one program: where in `work` its workspace begins and its scalars, its instructions and schedule, and the edges of
# its parameter arrays. First the one that adapts, then the one that predicts, of each width.
STORED = record_of("place workspace code code_rows schedule schedule_rows first_rows last_rows edges")
HEADER_WORDS, STORED_WORDS = HEADER.itemsize // 8, STORED.itemsize // 8

header_of = row_as(HEADER)  # of an int64 (1, HEADER_WORDS)
stored_of = row_as(STORED)  # of an int64 (programs, STORED_WORDS)


def version(stamp: str) -> int:
    """What a program says of the sources that it belongs to: as much of their hash as a word holds."""
    return int(stamp[:15], 16)
