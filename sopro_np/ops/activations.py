"""Element-wise functions and softmax in plain NumPy. x float32 of any shape where nothing else is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sopro_np.ops.abi import ERF_LIMIT, ERF_P, ERF_Q


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), element-wise. The clip keeps e^-x inside float32; beyond it the result is 0 or 1 anyway."""
    return 1 / (1 + np.exp(-np.clip(x, -88, 88)))


def glu(x: np.ndarray) -> np.ndarray:
    """Gated linear unit: x = [a | b], a * sigmoid(b).   (T, 2C) -> (T, C)."""
    half = x.shape[1] // 2
    return x[:, :half] * sigmoid(x[:, half:])


def erf(x: np.ndarray) -> np.ndarray:
    """Error function, element-wise (NumPy has none)."""
    y = np.clip(x, np.float32(-ERF_LIMIT), np.float32(ERF_LIMIT))
    u = y * y
    return y * _horner(ERF_P, u) / _horner(ERF_Q, u)


def _horner(coefficients: tuple[float, ...], u: np.ndarray) -> np.ndarray:
    total = np.full_like(u, coefficients[-1])
    for c in coefficients[-2::-1]:
        total *= u
        total += np.float32(c)
    return total


def gelu(x: np.ndarray) -> np.ndarray:
    """0.5 x (1 + erf(x / sqrt 2)), the exact form (the tanh form differs in the third digit)."""
    return np.float32(0.5) * x * (1 + erf(x * np.float32(0.7071067811865476)))


def elu(x: np.ndarray) -> np.ndarray:
    """x for x > 0, e^x - 1 below. One array, three passes."""
    y = np.minimum(x, 0)
    np.expm1(y, out=y)
    return np.maximum(x, y, out=y)


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis, after subtracting the largest entry."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"glu": glu, "gelu": gelu, "elu": elu, "tanh": np.tanh}
