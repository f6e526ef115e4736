"""The same bits from every compiler and machine; a missing tool is skipped by name, but not all of them."""

from __future__ import annotations

import os

import pytest

from tests.exports.toolchains import NAMES, TOOLCHAINS, result

MODELS = (
    "sine",
    "digits",
    "digits_int8",
    "plus_plus",
    "softened",
    "layer_norm",
    "reptile",
    "anil_int8",
    "prototypes",
    "transfer",
)


def hashes(artifact, name: str) -> dict[str, str]:
    folder, _ = artifact(name)
    ran = [toolchain for toolchain in TOOLCHAINS if not toolchain.missing]
    found = {}
    for toolchain in ran:
        worst, found[toolchain.name] = result(toolchain.output(folder, f"{name}.c", f"{name}_test.c"))
        assert 0 <= worst <= 1e-5, toolchain.name
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_adapted_state_has_the_same_bits_everywhere(artifact, name):
    if all(toolchain.missing for toolchain in TOOLCHAINS):
        pytest.skip("no C compiler is installed")
    found = hashes(artifact, name)
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=NAMES)
def test_toolchain_is_there(toolchain):
    """Skipped where it is not, so that a run says which ones did not take part."""
    if toolchain.missing:
        pytest.skip(f"{toolchain.missing} is not installed")


def test_several_toolchains_took_part():
    """In .ci/run, which installs them: distinct compilers."""
    fewest = int(os.environ.get("FASTMETA_FEWEST_TOOLCHAINS", "0"))
    there = {toolchain.compile.split(" ")[0] for toolchain in TOOLCHAINS if not toolchain.missing}
    assert len(there) >= fewest, there
