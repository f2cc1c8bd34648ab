"""Two F0 tracks in step (Hz, 0 where unvoiced): how far apart are they, and do they agree on what is voiced?"""

from __future__ import annotations

import numpy as np

from sopro_np.errors import UsageError


def compare(reference: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """f0_rmse_hz, f0_rmse_cents (1200 log2 of the ratio), f0_correlation (Pearson, of log F0), vuv_error in percent.

    The first three over frames that are voiced in both; nan where these are too few (or, for the correlation, where a
    track is constant). vuv_error over all frames.
    """
    r, a = np.asarray(reference, np.float64), np.asarray(actual, np.float64)
    if r.shape != a.shape or r.ndim != 1:
        raise UsageError(f"F0 tracks of shapes {r.shape} and {a.shape} are not in step: align them first")
    voiced = (r > 0) & (a > 0)
    hz = a[voiced] - r[voiced]
    log_r, log_a = np.log2(r[voiced]), np.log2(a[voiced])
    return {
        "f0_rmse_hz": _rms(hz),
        "f0_rmse_cents": _rms(1200 * (log_a - log_r)),
        "f0_correlation": correlation(log_r, log_a),
        "vuv_error": 100 * float(((r > 0) != (a > 0)).mean()) if len(r) else float("nan"),
    }


def median(f0: np.ndarray) -> float:
    """Of the voiced frames, in Hz; nan without any."""
    return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else float("nan")


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r of two series; nan for fewer than two values or a constant one."""
    x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
    norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / norm if norm > 1e-12 else float("nan")


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(x).mean())) if len(x) else float("nan")
