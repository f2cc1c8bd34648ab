"""Estimates of a mean opinion score, 1 to 5, by networks that listeners' scores were taught to. For comparisons only.

`distillmos` (PyPI: distillmos, MIT) and `dnsmos` (PyPI: speechmos, MIT; its overall score). Both hear 16 kHz.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from sopro_np.hearing import resample

RATE = 16000
SECONDS = 9.01  # that DNSMOS hears; what is shorter is repeated
OVERALL = (-0.06766283, 1.11546468, 0.04602535)  # DNSMOS's own polynomial, from its output to a score

Opinion = Callable[[np.ndarray, int], float]  # waveform (n,), rate -> score


def distillmos() -> Opinion:
    import torch

    sys.modules.setdefault("torchaudio", ModuleType("torchaudio"))  # it reads files for them, which nobody asks here
    from distillmos import ConvTransformerSQAModel

    model = ConvTransformerSQAModel().eval()

    @torch.inference_mode()
    def opinion(wave: np.ndarray, rate: int) -> float:
        return float(model(torch.from_numpy(resample(wave, rate, RATE))[None]))

    return opinion


def dnsmos() -> Opinion:
    import onnxruntime

    package = importlib.util.find_spec("speechmos")
    if package is None or package.origin is None:
        raise SystemExit("the opinion `dnsmos` needs: pip install --no-deps speechmos")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(package.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    session = onnxruntime.InferenceSession(str(path), options)

    def opinion(wave: np.ndarray, rate: int) -> float:
        heard = np.resize(resample(wave, rate, RATE), int(SECONDS * RATE)).astype(np.float32)
        overall = session.run(None, {session.get_inputs()[0].name: heard[None]})[0][0, 2]
        return float(np.polyval(OVERALL, overall))

    return opinion


OPINIONS: dict[str, Callable[[], Opinion]] = {"distillmos": distillmos, "dnsmos": dnsmos}
