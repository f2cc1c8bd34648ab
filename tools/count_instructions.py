"""Instructions inside kernels for a fixed utterance: a figure that does not depend on how busy a machine is.

    python tools/count_instructions.py            # counted, and compared with the one that was accepted
    python tools/count_instructions.py --accept   # from now on this is the accepted one

valgrind's callgrind runs the embedded model with the kernels for AVX2 on one thread and counts; what NumPy and Python
do is left out. Exit code 1 if there are 3 % more than accepted in tests/data/instructions.json. Needs valgrind (Debian:
apt-get install valgrind) and the pack for AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sopro_np.ops.native import packs  # noqa: E402

ACCEPTED = ROOT / "tests" / "data" / "instructions.json"
TARGET, MOST = "avx2", 1.03
UTTERANCE = """
import os
import warnings
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # or a worker, waiting for work, is counted as long as it waits
warnings.simplefilter("ignore")
import sopro_np
with sopro_np.load(threads=1) as tts:
    tts.synthesize("Hello there.", seed=1, max_frames=12, min_gen_frames=12, guard=False)
"""


def counted(profile: Iterable[str], objects: str) -> int:
    """Instructions in a callgrind profile that were executed in the shared objects whose path holds that text."""
    names: dict[str, str] = {}
    inside, is_call, total = False, False, 0
    for line in profile:
        if match := re.match(r"(c?ob)=(\(\d+\)) ?(.*)", line):  # a number is named where it is first seen
            kind, number, path = match.groups()
            names.setdefault(number, path)
            if kind == "ob":
                inside = objects in names[number]
        elif line.startswith("calls="):
            is_call = True
        elif line[:1] in "+-*" or line[:1].isdigit():
            if inside and not is_call:  # what follows "calls=" is spent by whoever is called
                total += int(line.split()[1])
            is_call = False
    return total


def count() -> int:
    """Of the fixed utterance. SystemExit if it cannot be counted here."""
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (Debian: apt-get install valgrind)")
    pack = packs.PACKS / packs.pack_name("x86_64", TARGET)
    if wrong := packs.sound(pack):
        raise SystemExit(f"{pack}: {wrong}; {packs.remedy()}")
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", sys.executable, "-c", UTTERANCE]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SOPRO_NP_TARGET": TARGET, "SOPRO_NP_KERNELS": "pack"}
        environment.pop("SOPRO_NP_MODEL", None)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"valgrind failed:\n{done.stderr[-2000:]}")
        with profile.open(encoding="utf-8") as lines:
            return counted(lines, pack.name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="keep this count as the accepted one")
    args = parser.parse_args(arguments)
    found = count()
    if args.accept:
        ACCEPTED.write_text(json.dumps({TARGET: found}) + "\n", "utf-8")
        print(f"{found:,} instructions, accepted")
        return 0
    accepted = json.loads(ACCEPTED.read_text("utf-8"))[TARGET]
    print(f"{found:,} instructions, {found / accepted - 1:+.2%} against the accepted {accepted:,}")
    return int(found > MOST * accepted)


if __name__ == "__main__":
    sys.exit(main())
