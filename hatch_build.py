"""hatchling's build hook: compiles this machine's kernels and puts them into the wheel.

    SOPRO_NP_BUILD_MACHINE=aarch64 pip wheel .     # a wheel for another machine; needs its binutils

Kernel packs are plain C functions that know neither Python nor a C library's version, hence the tag.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NUMBA = "pip install 'numba>=0.68.1,<0.69'"
COMPILER = 400 << 20  # bytes that one is left; it takes 200 MB


class KernelPacks(BuildHookInterface):
    """Without a linker or numba the wheel is a pure one, and says so; a kernel that does not compile stops it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, self.root)
        asked = os.environ.get("SOPRO_NP_BUILD_MACHINE")
        from sopro_np.kernels.build import ToolMissing, build, targets_of
        from sopro_np.ops.native.cpu import machine, supported
        from sopro_np.ops.native.packs import PACKS, pack_name, sound

        try:
            if not (asked or supported()):
                raise ToolMissing("native kernels are for 64-bit Linux on x86_64 or aarch64")
            where = asked or machine()
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            jobs = min(os.cpu_count() or 1, memory // COMPILER + 1)
            targets = targets_of(where)
            absent = [target for target in targets if sound(PACKS / pack_name(*target.split("/")))]
            for name in ("numba", "llvmlite"):  # before the linker is looked for, which alone would not help
                if absent and importlib.util.find_spec(name) is None:
                    raise ToolMissing(
                        f"{name} is not installed in the environment that builds: {NUMBA} there, "
                        "or build without --no-build-isolation"
                    )
            packs = list(build(targets, PACKS, jobs))
        except ToolMissing as error:
            if asked:
                raise
            self.app.display_warning(
                f"\n*** sopro_np is built WITHOUT native kernels: {error}\n"
                f"*** It will speak with NumPy, many times slower, unless it finds numba when it runs ({NUMBA}).\n"
            )
            return
        finally:
            sys.path.remove(self.root)
        if version != "editable":  # which finds them where they are
            build_data["force_include"] |= {str(path): f"sopro_np/packs/{path.name}" for path in packs}
            build_data["pure_python"], build_data["tag"] = False, f"py3-none-linux_{where}"
