"""exp, sigmoid, ELU, tanh, erf, GELU on 16 lanes: polynomials of our own, because libm differs between machines.

Largest errors in float32 over the whole range (tests/test_ops.py measures them): exp 1.2e-7 relative,
sigmoid 2e-7, erf 4e-7, tanh 3e-7 relative; ELU 2e-7 absolute.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sopro_np.kernels.simd.vector import (
    add,
    add_i,
    bits,
    div,
    fma,
    from_bits,
    integer,
    larger,
    load,
    load_first,
    mul,
    real,
    shift_left,
    smaller,
    store,
    store_first,
    sub,
    sub_i,
    where_less,
)
from sopro_np.ops.abi import ERF_LIMIT, ERF_P, ERF_Q

inline = njit(error_model="numpy", inline="never", no_cpython_wrapper=True)
F = np.float32
ROUND = F(12582912.0)  # 1.5 * 2**23: adding it leaves the nearest integer (half to even) in the lowest bits
ROUND_BITS = 0x4B400000


@inline
def load_up_to(at, n):
    """16 numbers, or the n that there are and zeros."""
    if n >= 16:
        return load(at)
    return load_first(at, n)


@inline
def store_up_to(at, v, n):
    """16 numbers, or as many as belong there."""
    if n >= 16:
        store(at, v)
    elif n > 0:
        store_first(at, v, n)


@inline
def nearest_integer(x):
    """Lanes of |x| < 2**22 rounded half to even -> integers."""
    return sub_i(bits(add(x, real(ROUND))), integer(ROUND_BITS))


@inline
def exp(x):
    """e^x; below -87.3 as at -87.3, above 88.3 as at 88.3.

    x = n ln 2 + r, |r| <= ln 2 / 2; e^r by a polynomial of degree 6 (the coefficients of Cephes' expf), 2^n by its
    exponent bits.
    """
    x = larger(real(F(-87.3)), x)  # in this order NaN stays NaN
    x = smaller(real(F(88.3)), x)
    shifted = fma(x, real(F(1.44269504088896341)), real(ROUND))
    n = sub(shifted, real(ROUND))
    r = fma(n, real(F(-0.693359375)), x)
    r = fma(n, real(F(2.12194440e-4)), r)
    p = fma(r, real(F(1.9875691500e-4)), real(F(1.3981999507e-3)))
    p = fma(p, r, real(F(8.3334519073e-3)))
    p = fma(p, r, real(F(4.1665795894e-2)))
    p = fma(p, r, real(F(1.6666665459e-1)))
    p = fma(p, r, real(F(5.0000001201e-1)))
    p = add(fma(p, mul(r, r), r), real(F(1.0)))
    return from_bits(add_i(bits(p), shift_left(bits(shifted), 23)))


@inline
def exp_below_zero(x):
    """e^x for x <= 0 (anything finite above), within 1e-7 of it; shorter than `exp`, for it need not be exact far down.

    At n ln 2 in a single rounded constant r is off by n * 1e-8, which e^x <= 2^n makes harmless.
    """
    x = larger(real(F(-87.3)), x)
    shifted = fma(x, real(F(1.44269504088896341)), real(ROUND))
    n = sub(shifted, real(ROUND))
    r = fma(n, real(F(-0.6931471805599453)), x)
    p = fma(r, real(F(1.3981999507e-3)), real(F(8.3334519073e-3)))
    p = fma(p, r, real(F(4.1665795894e-2)))
    p = fma(p, r, real(F(1.6666665459e-1)))
    p = fma(p, r, real(F(5.0000001201e-1)))
    p = fma(p, r, real(F(1.0)))
    p = fma(p, r, real(F(1.0)))
    return from_bits(add_i(bits(p), shift_left(bits(shifted), 23)))


@inline
def sigmoid(x):
    """1 / (1 + e^-x)."""
    one = real(F(1.0))
    return div(one, add(one, exp(sub(real(F(0.0)), x))))


@inline
def elu(x):
    """x for x > 0, e^x - 1 below."""
    return where_less(x, real(F(0.0)), sub(exp_below_zero(x), real(F(1.0))), x)


@inline
def tanh(x):
    """For |x| < 0.625 an odd polynomial (the coefficients of Cephes' tanhf), beyond it 1 - 2 / (e^2x + 1)."""
    zero, one = real(F(0.0)), real(F(1.0))
    u = mul(x, x)
    p = fma(u, real(F(-5.70498872745e-3)), real(F(2.06390887954e-2)))
    p = fma(p, u, real(F(-5.37397155531e-2)))
    p = fma(p, u, real(F(1.33314422036e-1)))
    p = fma(p, u, real(F(-3.33332819422e-1)))
    near = fma(mul(p, u), x, x)
    size = where_less(x, zero, sub(zero, x), x)
    far = sub(one, div(real(F(2.0)), add(exp(add(size, size)), one)))
    far = where_less(x, zero, sub(zero, far), far)
    return where_less(size, real(F(0.625)), near, far)


@inline
def erf(x):
    """x P(x^2) / Q(x^2) on |x| <= 3.92 (the coefficients are ops/abi.py's, which NumPy's erf uses, too)."""
    y = larger(real(F(-ERF_LIMIT)), x)
    y = smaller(real(F(ERF_LIMIT)), y)
    u = mul(y, y)
    p = fma(u, real(F(ERF_P[5])), real(F(ERF_P[4])))
    p = fma(p, u, real(F(ERF_P[3])))
    p = fma(p, u, real(F(ERF_P[2])))
    p = fma(p, u, real(F(ERF_P[1])))
    p = fma(p, u, real(F(ERF_P[0])))
    q = fma(u, real(F(ERF_Q[5])), real(F(ERF_Q[4])))
    q = fma(q, u, real(F(ERF_Q[3])))
    q = fma(q, u, real(F(ERF_Q[2])))
    q = fma(q, u, real(F(ERF_Q[1])))
    q = fma(q, u, real(F(ERF_Q[0])))
    return div(mul(y, p), q)


@inline
def gelu(x):
    """0.5 x (1 + erf(x / sqrt 2))."""
    half = mul(x, real(F(0.5)))
    return mul(half, add(real(F(1.0)), erf(mul(x, real(F(0.7071067811865476))))))
