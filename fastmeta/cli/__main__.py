"""`python -m fastmeta.cli` is `fastmeta`."""

from fastmeta.cli import main

main(prog_name="fastmeta")
