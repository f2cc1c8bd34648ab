"""AVX-VNNI on a CPU that lacks it: `vpdpbusd` is an illegal instruction there, and what its signal's handler computes.

    python tests/emulated_vnni.py PROGRAM [ARGUMENT ...]    # a Python program, whose kernels are those for avxvnni

The machine code is that which newer CPUs run; only this one instruction (VEX.256.66.0F38.W0 50 /r) is carried out here,
from its description in Intel's manual: to each of 8 sums of 32 bits it adds 4 products of an unsigned byte of the
second operand and a signed byte of the third. Registers lie in the signal's frame as the kernel of Linux documents it:
general ones from byte 40 of the context, the lower halves of vectors 160 bytes into the saved state, the upper ones at
576 of it.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys
from pathlib import Path

from numba import cfunc, njit, types

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from sopro_np.kernels.simd.vector import load_i8, load_i32, load_i64, store_i32, store_i64  # noqa: E402
from sopro_np.ops.native import cpu  # noqa: E402

GENERAL, RIP, STATE = 40, 40 + 8 * 16, 40 + 8 * 23  # bytes of a context
# Where the context has the register of that number: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 ... r15
PLACES = (13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7)
LOW, FOUND, HIGH = 160, 512, 576  # bytes of the saved state; FOUND: which parts of it are in use
AVX = 4
count = ctypes.c_int64(0)  # of instructions that were carried out here (of one thread, or about so)
COUNT = ctypes.addressof(count)
inline = njit(error_model="numpy", inline="never")


@inline
def byte(at):
    return load_i8(at) & 255


@inline
def general(context, number):
    return load_i64(context + GENERAL + 8 * PLACES[number])


@inline
def lane(state, register, i):
    """Where 32-bit lane i of a vector register lies."""
    return state + (LOW + 16 * register + 4 * i if i < 4 else HIGH + 16 * register + 4 * (i - 4))


@inline
def memory(context, at, first):
    """(address of an operand, bytes behind the opcode) for the mod-rm byte at `at`; first: the byte with X and B."""
    mode, rm, size, address = byte(at) >> 6, byte(at) & 7, 1, 0
    x, b = (~first >> 6) & 1, (~first >> 5) & 1
    if rm == 4:
        scale, index, base = byte(at + 1) >> 6, byte(at + 1) >> 3 & 7 | x << 3, byte(at + 1) & 7
        size = 2
        if index != 4:
            address += general(context, index) << scale
        if base == 5 and mode == 0:
            address += load_i32(at + 2)
            size = 6
        else:
            address += general(context, base | b << 3)
    elif rm == 5 and mode == 0:
        address = at + 5 + load_i32(at + 1)  # from the next instruction on
        size = 5
    else:
        address = general(context, rm | b << 3)
    if mode == 1:
        address += load_i8(at + size)
        size += 1
    elif mode == 2:
        address += load_i32(at + size)
        size += 4
    return address, size


@cfunc(types.void(types.int32, types.int64, types.int64))
def handler(number, information, context):
    at = load_i64(context + RIP)
    first, second = byte(at + 1), byte(at + 2)
    is_ours = byte(at) == 0xC4 and first & 31 == 2 and second & 0x87 == 5 and byte(at + 3) == 0x50
    if not is_ours:
        store_i64(0, 0)  # the end
    state = load_i64(context + STATE)
    used = load_i64(state + FOUND)
    if used & AVX == 0:  # the upper halves are zero, and not there
        for i in range(32):
            store_i64(state + HIGH + 8 * i, 0)
        store_i64(state + FOUND, used | AVX)
    modes = byte(at + 4)
    target, left = modes >> 3 & 7 | (~first >> 7 & 1) << 3, ~(second >> 3) & 15
    place, size = 0, 1
    if modes >> 6 != 3:
        place, size = memory(context, at + 4, first)
    right = modes & 7 | (~first >> 5 & 1) << 3
    for i in range(8):
        x, y = lane(state, left, i), place + 4 * i if place != 0 else lane(state, right, i)
        total = load_i32(lane(state, target, i))
        for j in range(4):
            total += byte(x + j) * load_i8(y + j)
        store_i32(lane(state, target, i), total)
    store_i64(context + RIP, at + 4 + size)
    store_i64(COUNT, load_i64(COUNT) + 1)


class Action(ctypes.Structure):
    """`struct sigaction` of glibc and musl."""

    _fields_ = (("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p))  # fmt: skip


def install() -> None:
    """From now on, in all threads."""
    action = Action(handler=handler.address, flags=4 | 0x40000000)  # with its context; may come again inside
    if ctypes.CDLL(None, use_errno=True).sigaction(signal.SIGILL, ctypes.byref(action), None):
        raise OSError(ctypes.get_errno(), "sigaction")


if __name__ == "__main__":
    if "avx_vnni" not in cpu.cpu_flags():
        flags = cpu.cpu_flags() | {"avx_vnni"}
        cpu.cpu_flags = lambda: flags
        install()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        print(f"{count.value} instructions emulated", file=sys.stderr)
