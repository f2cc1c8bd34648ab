"""No kernel takes more instructions than it did, unless somebody has accepted that."""

from __future__ import annotations

import shutil

import pytest
from conftest import on_kernels

from sopro_np.ops.native import cpu
from tools import count_instructions

PROFILE = """events: Ir
ob=(1) /lib/libc.so
fn=(1) malloc
12 100
calls=1 40
12 900
ob=(2) /a/packs/x86_64-avx2-1.so
fn=(2) gemm
+3 7
cob=(1)
cfn=(1)
calls=2 12
* 5000
-1 20
fn=(3) other
* 3
ob=(1)
14 1
cob=(3) /b/other.so
calls=1 1
1 50
ob=(2)
1 10
"""


def test_what_others_spend_is_not_counted() -> None:
    lines = PROFILE.splitlines()
    assert count_instructions.counted(lines, "avx2-1.so") == 7 + 20 + 3 + 10
    assert count_instructions.counted(lines, "libc") == 101
    assert count_instructions.counted(lines, "other.so") == 0


@on_kernels
def test_kernels_take_no_more_instructions_than_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("valgrind") is None or "avx2" not in cpu.fitting():
        pytest.skip("valgrind is not installed" if "avx2" in cpu.fitting() else "this CPU lacks AVX2")
    assert count_instructions.main([]) == 0, capsys.readouterr().out
