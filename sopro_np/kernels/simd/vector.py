"""The vocabulary of the kernels: 16 numbers at a time, at addresses.

`f32x16` and `i32x16` are types that Numba keeps in registers; every word below is one or a few LLVM instructions.
Addresses are int64. Nothing here allocates, raises or knows Python objects.
"""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

from sopro_np.kernels import simd
from sopro_np.kernels.simd.llvm import call

TARGET = simd.chosen()
LANES = 16
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
VF, VI = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


class Vector(types.Type):
    """A register of 16 lanes."""

    def __init__(self, name: str, llvm: Any) -> None:
        self.llvm = llvm
        super().__init__(name=name)


f32x16, i32x16 = Vector("f32x16", VF), Vector("i32x16", VI)


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def splat(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """The same number in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def word(result: Any, *params: Any) -> Any:
    """Decorator: (builder, *args) -> IR value becomes an intrinsic of that signature."""

    def make(emit: Any) -> Any:
        def typer(typingctx: Any, *given: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                value = emit(builder, *args)
                return context.get_dummy_value() if result is types.void else value

            return result(*params), codegen

        typer.__name__, typer.__doc__ = emit.__name__, emit.__doc__
        names = ["typingctx", *(f"a{i}" for i in range(len(params)))]
        parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typer.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # where Numba counts the arguments
        return intrinsic(typer)

    return make


A, INT, REAL = types.int64, types.int64, types.float32  # an address, a count, a number


# ---------------------------------------------------------------- scalars in memory


def _integers(kind: Any, size: int) -> tuple[Any, Any]:
    """The words that read and write one signed integer of so many bytes."""

    @word(types.int64, A)
    def load_integer(b: Any, at: Any) -> Any:
        value = b.load(pointer(b, at, kind), align=size)
        return value if kind is I64 else b.sext(value, I64)

    @word(types.void, A, INT)
    def store_integer(b: Any, at: Any, value: Any) -> Any:
        b.store(value if kind is I64 else b.trunc(value, kind), pointer(b, at, kind), align=size)

    return load_integer, store_integer


load_i64, store_i64 = _integers(I64, 8)
load_i32, store_i32 = _integers(I32, 4)
load_i16, store_i16 = _integers(I16, 2)
load_i8, store_i8 = _integers(I8, 1)


@word(types.float32, A)
def load_real(b: Any, at: Any) -> Any:
    return b.load(pointer(b, at, F32), align=4)


@word(types.void, A, REAL)
def store_real(b: Any, at: Any, value: Any) -> Any:
    b.store(value, pointer(b, at, F32), align=4)


@word(types.float32, INT)
def real_of_bits(b: Any, bits: Any) -> Any:
    return b.bitcast(b.trunc(bits, I32), F32)


@word(types.float64, INT)
def double_of_bits(b: Any, bits: Any) -> Any:
    return b.bitcast(bits, ir.DoubleType())


# ---------------------------------------------------------------- vectors in memory


@word(f32x16, A)
def load(b: Any, at: Any) -> Any:
    return b.load(pointer(b, at, VF), align=4)


@word(types.void, A, f32x16)
def store(b: Any, at: Any, v: Any) -> Any:
    b.store(v, pointer(b, at, VF), align=4)


def first_lanes(b: Any, n: Any) -> Any:
    """Mask of the lanes 0..n-1."""
    return b.icmp_signed("<", ir.Constant(VI, list(range(LANES))), splat(b, b.trunc(n, I32)))


@word(f32x16, A, INT)
def load_first(b: Any, at: Any, n: Any) -> Any:
    """The first n numbers, zero in the other lanes; what lies behind them is not touched."""
    args = [pointer(b, at, VF), I32(4), first_lanes(b, n), ir.Constant(VF, [0.0] * LANES)]
    return call(b, "llvm.masked.load.v16f32.p0", VF, *args)


@word(types.void, A, f32x16, INT)
def store_first(b: Any, at: Any, v: Any, n: Any) -> Any:
    """The first n lanes; what lies behind them is not touched."""
    call(b, "llvm.masked.store.v16f32.p0", ir.VoidType(), v, pointer(b, at, VF), I32(4), first_lanes(b, n))


@word(types.void, A, i32x16)
def store_bytes(b: Any, at: Any, v: Any) -> Any:
    """The lowest byte of every lane, 16 bytes."""
    b.store(b.trunc(v, ir.VectorType(I8, LANES)), pointer(b, at, ir.VectorType(I8, LANES)), align=1)


@word(types.void, A, i32x16)
def store_words(b: Any, at: Any, v: Any) -> Any:
    """The lower half of every lane, 32 bytes."""
    b.store(b.trunc(v, ir.VectorType(I16, LANES)), pointer(b, at, ir.VectorType(I16, LANES)), align=2)


# ---------------------------------------------------------------- arithmetic


@word(f32x16, REAL)
def real(b: Any, x: Any) -> Any:
    """The same number in every lane."""
    return splat(b, x)


@word(i32x16, INT)
def integer(b: Any, x: Any) -> Any:
    """The same number in every lane."""
    return splat(b, b.trunc(x, I32))


@word(f32x16, f32x16, f32x16)
def add(b: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y)


@word(f32x16, f32x16, f32x16)
def sub(b: Any, x: Any, y: Any) -> Any:
    return b.fsub(x, y)


@word(f32x16, f32x16, f32x16)
def mul(b: Any, x: Any, y: Any) -> Any:
    return b.fmul(x, y)


@word(f32x16, f32x16, f32x16)
def div(b: Any, x: Any, y: Any) -> Any:
    return b.fdiv(x, y)


@word(types.float32, REAL)
def root(b: Any, x: Any) -> Any:
    return call(b, "llvm.sqrt.f32", F32, x)


@word(f32x16, f32x16, f32x16, f32x16)
def fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once."""
    return call(b, "llvm.fma.v16f32", VF, x, y, z)


@word(f32x16, f32x16, f32x16)
def larger(b: Any, x: Any, y: Any) -> Any:
    """x where x > y, else y: so NaN in x is dropped, and the result is the same on every CPU."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


@word(f32x16, f32x16, f32x16)
def smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered("<", x, y), x, y)


@word(f32x16, f32x16, f32x16, f32x16, f32x16)
def where_less(b: Any, x: Any, limit: Any, yes: Any, no: Any) -> Any:
    """yes where x < limit, else no."""
    return b.select(b.fcmp_ordered("<", x, limit), yes, no)


@word(i32x16, f32x16)
def bits(b: Any, x: Any) -> Any:
    """The bit patterns as integers."""
    return b.bitcast(x, VI)


@word(f32x16, i32x16)
def from_bits(b: Any, x: Any) -> Any:
    return b.bitcast(x, VF)


@word(f32x16, i32x16)
def to_real(b: Any, x: Any) -> Any:
    """Integers to the nearest float32."""
    return b.sitofp(x, VF)


@word(i32x16, i32x16, i32x16)
def add_i(b: Any, x: Any, y: Any) -> Any:
    return b.add(x, y)


@word(i32x16, i32x16, i32x16)
def sub_i(b: Any, x: Any, y: Any) -> Any:
    return b.sub(x, y)


@word(i32x16, i32x16, i32x16)
def mul_i(b: Any, x: Any, y: Any) -> Any:
    return b.mul(x, y)


@word(i32x16, i32x16, INT)
def shift_right(b: Any, x: Any, n: Any) -> Any:
    """Signed: rounds down."""
    return b.ashr(x, splat(b, b.trunc(n, I32)))


@word(i32x16, i32x16, INT)
def shift_left(b: Any, x: Any, n: Any) -> Any:
    return b.shl(x, splat(b, b.trunc(n, I32)))
