"""`sopro-np doctor`: one look at everything that decides whether and how fast this machine can speak."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from sopro_np import cores, ops
from sopro_np.errors import SoproError
from sopro_np.files import cache_dir, voices_dir
from sopro_np.locate import find_model
from sopro_np.ops import native
from sopro_np.ops.native import cpu, packs
from sopro_np.version import __version__

FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "asimd", "asimddp", "i8mm")
NEEDED = ("numpy", "safetensors", "soundfile", "soxr", "regex", "threadpoolctl", "py-cpuinfo")
OPTIONAL = {
    "numba": "jit", "huggingface_hub": "hub", "torch": "convert",
    "pyworld": "eval", "jiwer": "eval", "pocketsphinx": "eval", "resemblyzer": "eval",
}  # fmt: skip


def doctor(args: argparse.Namespace) -> int:
    """Exit code 1 if something needed is missing."""
    facts = examine()
    if args.json:
        json.dump(facts, sys.stdout, indent=1)
        print()
    else:
        for key, value in facts.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
            elif isinstance(value, list):
                value = ", ".join(map(str, value)) or "none"
            print(f"{key:13} {value}")
    return 1 if facts["problems"] else 0


def examine() -> dict[str, Any]:
    """Facts in the order in which they are printed."""
    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    problems = [f"{name} is not installed: pip install {name}" for name in NEEDED if packages[name] == "missing"]
    if sys.maxsize < 2**32:
        problems.append("this Python is a 32-bit one: install a 64-bit system")
    try:
        computing = ops.current()
    except SoproError as error:  # the environment asks for kernels that are not to be had
        computing = "none"
        problems.append(str(error))
    try:
        model = str(find_model(None, tell=False))
    except SoproError as error:
        model = f"none ({error})"
        if os.environ.get("SOPRO_NP_MODEL"):
            problems.append(str(error))
    brand, features = _cpu()
    return {
        "sopro_np": __version__,
        "python": f"{platform.python_version()} on {sysconfig.get_platform()}",
        "cpu": f"{brand}, {os.cpu_count()} cores",
        "usable cores": cores.why(),
        "features": features,
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f} MiB",
        "ops": computing,
        "kernels": _kernels(),
        "targets": cpu.fitting(),
        "lacking": {target: " ".join(flags) for target, flags in cpu.lacking().items()},
        "packs": _packs(),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("SOPRO_NP_")},
        "blas": _blas(),
        "packages": packages,
        "model": model,
        "models in": _folder(cache_dir),
        "voices in": _folder(voices_dir),
        "problems": problems,
    }


def _folder(which: Callable[[], Path]) -> str:
    try:
        return str(which())
    except SoproError as error:  # nowhere to keep anything: no obstacle to speaking
        return f"none ({error})"


def _kernels() -> dict[str, str]:
    """The machine code there is, or why there is none."""
    try:
        found = native.kernels()
    except SoproError as error:
        return {"none": str(error)}
    place = str(found.path or "memory")
    return {"source": found.source, "target": found.target, "hash": packs.source_hash(), "file": place}


def _packs() -> dict[str, str]:
    """Everything that lies where packs are looked for, and what it is good for."""
    mine = [packs.pack_name(cpu.machine(), target) for target in cpu.NEEDS.get(cpu.machine(), ())]
    states = {}
    for path in sorted(packs.PACKS.glob("*")):
        wrong = packs.sound(path) if path.suffix == ".so" else "not a pack"
        states[path.name] = wrong or ("sound" if path.name in mine else "of other sources or another CPU: not used")
    return states


def _cpu() -> tuple[str, list[str]]:
    """Name of the processor, and those of its features that kernels care about. py-cpuinfo takes a second."""
    try:
        import cpuinfo

        facts = cpuinfo.get_cpu_info()
    except Exception as error:  # it parses the output of half a dozen programs; none of them is worth failing for
        return f"unknown ({error})", []
    flags = set(facts.get("flags", ()))
    return facts.get("brand_raw") or facts.get("arch_string_raw") or "unknown", [f for f in FEATURES if f in flags]


def _blas() -> str:
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p.get("user_api") == "blas"]
    return ", ".join(f"{p['internal_api']} {p.get('version')}, {p['num_threads']} threads" for p in pools) or "none"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        extra = OPTIONAL.get(package)
        return f"absent (extra {extra})" if extra else "missing"
