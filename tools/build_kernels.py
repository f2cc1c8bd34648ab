"""Compile the native kernels ahead of time: one small shared object per instruction set.

    python tools/build_kernels.py --in-place     # this machine's targets, into sopro_np/packs: editable installs, tests
    python tools/build_kernels.py --all -o DIR   # every target, ARM64 included, on any machine that has the linkers

Needs numba and numpy, and `ld` (for another architecture: its binutils). Every target is compiled in a process of
its own; no two of them share state.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.kernels.build import BuildError, build, targets_of
from sopro_np.ops.native.cpu import NEEDS, machine
from sopro_np.ops.native.packs import PACKS


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--in-place", action="store_true", help="into sopro_np/packs, where the program looks")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR")
    parser.add_argument("--all", action="store_true", help="every architecture, not only this machine's")
    parser.add_argument("--target", action="append", metavar="ARCH/NAME", help="only this one (may be repeated)")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    args = parser.parse_args()
    if args.in_place == (args.output is not None):
        parser.error("choose --in-place or -o DIR")
    every = [target for where in NEEDS for target in targets_of(where)]
    targets = args.target or (every if args.all else [t for t in every if t.startswith(machine() + "/")])
    if unknown := sorted(set(targets) - set(every)):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(every)}")
    try:
        for path in build(targets, PACKS if args.in_place else args.output, args.jobs):
            print(f"{path.name}  {path.stat().st_size / 1024:.0f} KB", file=sys.stderr)
    except BuildError as error:
        print(f"build_kernels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
