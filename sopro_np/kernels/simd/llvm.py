"""What the targets are written with: calls of LLVM intrinsics, and vectors cut into smaller registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I8, I32 = ir.IntType(8), ir.IntType(32)


def vector(bits: int, lanes: int) -> Any:
    """The type of a register of `lanes` integers."""
    return ir.VectorType(ir.IntType(bits), lanes)


def constant(kind: Any, value: int) -> Any:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call of an LLVM intrinsic."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), args)


def cut(builder: Any, v: Any, count: int) -> list[Any]:
    """<16 x i32> -> `count` vectors of the lanes in order."""
    lanes = v.type.count // count
    picks = [ir.Constant(vector(32, lanes), list(range(i * lanes, (i + 1) * lanes))) for i in range(count)]
    return [builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), pick) for pick in picks]


def joined(builder: Any, parts: list[Any]) -> Any:
    """The inverse of `cut`."""
    while len(parts) > 1:
        all_lanes = ir.Constant(vector(32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(low, high, all_lanes) for low, high in pairs]
    return parts[0]


def by_parts(dot: Any, count: int) -> Any:
    """dot4 of a whole vector from one of a register: dot(builder, acc, x bytes, w bytes)."""

    def dot4(builder: Any, acc: Any, x: Any, w: Any) -> Any:
        size = vector(8, 4 * acc.type.count // count)
        x, w = ([builder.bitcast(part, size) for part in cut(builder, v, count)] for v in (x, w))
        parts = zip(cut(builder, acc, count), x, w, strict=True)
        return joined(builder, [dot(builder, *part) for part in parts])

    return dot4
