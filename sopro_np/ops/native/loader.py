"""Finds and loads the kernels of this process: a pack where there is one, else the JIT's (extra `jit`)."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache

from sopro_np.errors import OpsError, SoproWarning
from sopro_np.ops.native import cpu, packs
from sopro_np.ops.native.packs import Kernels

SOURCES = ("pack", "jit")  # of machine code


def wanted_source() -> str | None:
    """The source that SOPRO_NP_KERNELS names."""
    name = os.environ.get("SOPRO_NP_KERNELS") or None
    if name not in (None, *SOURCES):
        raise OpsError(f"SOPRO_NP_KERNELS={name}: kernels come from {' or '.join(SOURCES)}")
    return name


def asked_for() -> bool:
    """Does the environment name a source or a target? Then nothing else will do."""
    return bool(os.environ.get("SOPRO_NP_KERNELS") or os.environ.get("SOPRO_NP_TARGET"))


@cache
def kernels() -> Kernels:
    """The kernels of this process. An error says why there are none."""
    source = wanted_source()
    if not cpu.supported():
        raise OpsError(f"native kernels are for 64-bit Linux on {' or '.join(cpu.NEEDS)}, this is {cpu.system()}")
    names = cpu.wanted()
    if source != "jit":
        for name in names:
            if (path := packs.PACKS / packs.pack_name(cpu.machine(), name)).exists():
                return packs.load_pack(path, name)
        stale = sorted(p.name for p in packs.PACKS.glob("*.so")) if packs.PACKS.is_dir() else []
        made = f" ({packs.PACKS} holds {', '.join(stale)}: of other sources or for other CPUs)" if stale else ""
        why = f"no kernel pack {packs.source_hash()} for {cpu.machine()} {' or '.join(names)}{made}"
        if source == "pack" or importlib.util.find_spec("numba") is None:
            raise OpsError(f"{why}: {packs.remedy()}")
        warnings.warn(f"{why}: the JIT's kernels instead", SoproWarning, stacklevel=2)
    from sopro_np.ops.native import jit

    return jit.load(names[0])
