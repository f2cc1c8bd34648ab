"""How fast would a board be? Cycles of the int8 product's inner loop, from LLVM's models of its core.

    python tools/board_estimate.py            # the table of docs/SPEED.md

The kernels are compiled for the board's instruction set, the loop with the most products is cut out of the
disassembly, and llvm-mca tells how many cycles it takes when all data is in the first-level cache. An estimate: it
leaves out memory, everything that is not a product, and what the model of the core does not know.
Needs numba, llvm-objdump and llvm-mca (16 or later for the Raspberry Pi 5).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.kernels.build import BuildError, compiled
from sopro_np.ops.native.jit import PIP

GMAC_PER_SECOND = 3.4  # int8 products of one second of audio at the published sizes
ROUNDS = 100
PRODUCTS = {"sdot": 16, "smull": 8, "smull2": 8}  # of an instruction


class Board(NamedTuple):
    name: str
    core: str
    ghz: float
    target: str
    model: str  # of LLVM: its own one for an A76 is the older A57; the Neoverse N1 is the server's A76


BOARDS = (
    Board("Pi Zero 2 W", "cortex-a53", 1.0, "neon", "cortex-a53"),
    Board("Pi 4", "cortex-a72", 1.5, "neon", "cortex-a72"),
    Board("Pi 5", "cortex-a76", 2.4, "neon_dot", "neoverse-n1"),
)


def tool(name: str) -> str:
    """The newest one of this name."""
    for version in ("", *(f"-{n}" for n in range(30, 13, -1))):
        if version and (found := shutil.which(name + version)):
            return found
    if found := shutil.which(name):
        return found
    sys.exit(f"{name} is not installed (Debian: apt-get install llvm-16)")


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def disassembly(code: Path, function: str) -> str:
    return run(tool("llvm-objdump"), "-d", "--no-show-raw-insn", f"--disassemble-symbols={function}", str(code))


def loops(code: str) -> list[list[str]]:
    """Innermost loops of a disassembly: from the target of a backward branch to the branch."""
    rows = [(int(m[1], 16), m[2]) for m in re.finditer(r"^\s*([0-9a-f]+):\s+(\S.*)$", code, re.M)]
    place = {address: i for i, (address, _) in enumerate(rows)}
    found = []
    for i, (address, text) in enumerate(rows):
        branch = re.match(r"(?:b\.\w+|cbn?z|tbn?z)\b.*?0x([0-9a-f]+)", text)
        if branch and (start := int(branch[1], 16)) in place and start < address:
            found.append((place[start], i))
    inner = [(a, b) for a, b in found if not any((c, d) != (a, b) and a <= c and d <= b for c, d in found)]
    return [[text for _, text in rows[a : b + 1]] for a, b in inner]


def products(loop: list[str]) -> int:
    return sum(PRODUCTS.get(text.split()[0], 0) for text in loop)


def reuse(loop: list[str]) -> float:
    """Products per load: the tile of several rows has the most."""
    return products(loop) / max(1, sum(2 if text.startswith("ldp") else text.startswith("ld") for text in loop))


def cycles(loop: list[str], model: str) -> float:
    """Cycles of one round."""
    plain = [re.sub(r"\s+<.*>$", "", text) for text in loop[:-1]]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "loop.s"
        source.write_text("\n".join(["start:", *plain, "b.ne start"]) + "\n")
        options = ("-mtriple=aarch64-linux-gnu", f"-mcpu={model}", f"-iterations={ROUNDS}")
        said = run(tool("llvm-mca"), *options, str(source))
    return int(re.search(r"Total Cycles:\s+(\d+)", said)[1]) / ROUNDS  # type: ignore[index]


def main() -> int:
    for name in ("numba", "llvmlite"):
        if importlib.util.find_spec(name) is None:
            sys.exit(f"the kernels cannot be compiled: {name} is not installed: {PIP}")
    best: dict[str, list[str]] = {}
    for target in sorted({board.target for board in BOARDS}):
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder) / "code.o"
            try:
                code.write_bytes(compiled(f"aarch64/{target}", Path(folder)))
            except BuildError as error:
                sys.exit(str(error))
            entry = disassembly(code, "gemm_int8")
            inner = re.search(r"\bbl\b.*<(\w+)>", entry)  # Numba's wrapper calls the kernel proper
            best[target] = max(loops(disassembly(code, inner[1])), key=reuse)
    print("| board | core | kernel | cycles per step (256 MAC) | MAC per cycle | GMAC/s on one core | 1 s of audio |")
    print("|---|---|---|---|---|---|---|")
    for board in BOARDS:
        macs = products(best[board.target])
        took = cycles(best[board.target], board.model)
        speed = macs / took * board.ghz
        print(
            f"| {board.name} | {board.core}, {board.ghz} GHz | {board.target} | {took * 256 / macs:.1f} "
            f"| {macs / took:.1f} | {speed:.1f} | {GMAC_PER_SECOND / speed:.2f} s |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
