"""What the wheel is: for every machine, or with FASTMETA_WHEEL=x86_64 or aarch64 for that one, with its libraries."""

import os
from glob import glob
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Wheel(BuildHookInterface):
    """Puts the libraries that `fastmeta_kernels.cpu.native.build` made into a wheel for every Python of one machine."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say the wheel's tag and its libraries; OSError where there are none."""
        machine = os.environ.get("FASTMETA_WHEEL")
        if not machine:
            return
        kind = {"x86_64": "x86-64-v*", "aarch64": "aarch64"}[machine]
        found = glob(f"{self.root}/kernels/fastmeta_kernels/cpu/native/fastmeta-*-{kind}.so")
        if not found:
            raise OSError(f"There is no library for {machine}: run python -m fastmeta_kernels.cpu.native.build first.")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux2014_{machine}"
        build_data["force_include"] |= {path: f"fastmeta_kernels/cpu/native/{os.path.basename(path)}" for path in found}
