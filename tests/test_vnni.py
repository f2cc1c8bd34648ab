"""Kernels for AVX-VNNI, on a CPU that may lack it: tests/emulated_vnni.py carries out the one instruction that is new.

A whole model's speech, some minutes: `python tests/emulated_vnni.py tests/kernel_hashes.py FOLDER --few` with
SOPRO_NP_TARGET=avxvnni (docs/KERNELS.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import on_kernels, python

from sopro_np.ops.native import cpu, packs

pytestmark = on_kernels
HERE = Path(__file__).resolve().parent
SOME = """
import json
import kernel_hashes
from sopro_np import ops
from sopro_np.ops import native
from sopro_np.ops.native.threads import on_threads
from sopro_np.ops.quant import quantize

def product(scheme, frames, c, n, taps):
    x, w = kernel_hashes.numbers(1, frames + taps, c), kernel_hashes.numbers(2, n, taps * c)
    return ops.conv(x, ops.pack(quantize(w, scheme, taps)), past=x[:1], pre="elu")

found = {}
for case in (("int8", 1, 33, 70, 1), ("int8", 7, 20, 40, 2), ("int8", 70, 64, 1, 1), ("int4", 5, 40, 17, 2)):
    with ops.using("native"), on_threads(1):
        found[str(case)] = kernel_hashes.sha(product(*case))
print(json.dumps([native.kernels().target, found]))
"""


def test_the_same_bits_as_this_cpu_computes(tmp_path: Path) -> None:
    target = "avxvnni"
    if "avx2" not in cpu.fitting():
        pytest.skip("this CPU lacks AVX2")
    if packs.sound(packs.PACKS / packs.pack_name("x86_64", target)):
        pytest.skip("no pack was made for AVX-VNNI")
    program = tmp_path / "some.py"
    program.write_text(SOME)
    paths = {"PYTHONPATH": f"{HERE}:{HERE.parent}", "SOPRO_NP_KERNELS": "pack"}
    here = python(program, **paths, SOPRO_NP_TARGET="avx2")
    there = python(HERE / "emulated_vnni.py", program, **paths, SOPRO_NP_TARGET=target)
    assert here.returncode == 0 and there.returncode == 0, here.stderr + there.stderr
    emulated = int(there.stderr.split(" instructions emulated")[0].split()[-1])
    assert emulated > 1000 or "avx_vnni" in cpu.cpu_flags()
    (own, expected), (other, found) = json.loads(here.stdout), json.loads(there.stdout)
    assert (own, other) == ("avx2", target) and found == expected and len(set(found.values())) == len(found) == 4
