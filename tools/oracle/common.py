"""Configuration, checkpoint files and random weights: what both generations' models have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

STAGES = "BCDE"


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The fields both generations read; defaults are the published models'."""

    num_codebooks: int = 32
    codebook_size: int = 2048
    mimi_fps: float = 12.5
    d_model: int = 384
    pos_emb_max: int = 4096
    max_text_len: int = 2048
    n_layers_ar: int = 6
    ar_kernel: int = 13
    ar_dilation_cycle: tuple[int, ...] = (1, 2, 4, 1)
    ar_text_attn_freq: int = 2
    min_gen_frames: int = 12
    n_layers_nar: int = 6
    nar_head_dim: int = 256
    stage_B: tuple[int, int] = (2, 4)
    stage_C: tuple[int, int] = (5, 8)
    stage_D: tuple[int, int] = (9, 16)
    stage_E: tuple[int, int] = (17, 32)
    sv_student_dim: int = 192
    style_strength: float = 1.0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From the checkpoint's `cfg`: unknown keys are ignored, missing ones take their defaults."""
        known = {field.name for field in fields(cls)}
        frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items() if k in known}
        return cls(**frozen)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def stage_range(self, stage: str) -> range:
        """0-based codebook indices of a stage, which the config gives 1-based and inclusive."""
        low, high = getattr(self, f"stage_{stage}")
        return range(low - 1, high)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published checkpoint's tensors, widened to float32, and its raw `cfg`."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["cfg"])


def checkpoint_tensors(model: nn.Module) -> dict[str, np.ndarray]:
    """The model's state dict as NumPy arrays, under the published names."""
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def save_checkpoint(model: nn.Module, path: str | Path, dtype: type = np.float32) -> None:
    """Write the published format: tensors, and `cfg` as JSON in the header. The model needs a `cfg`."""
    tensors = {name: array.astype(dtype) for name, array in checkpoint_tensors(model).items()}
    save_file(tensors, path, metadata={"cfg": json.dumps(model.cfg.to_dict())})


@torch.no_grad()
def randomise(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw every parameter and stored buffer so that none is degenerate, in place; returns the model.

    A trained-from-zero gate or a uniform mix would hide a mistake behind it, so everything that upstream
    initialises to 0 or 1 gets a telling value as well. The same generator state gives the same model.
    """

    def normal(tensor: Tensor, scale: float, mean: float = 0.0) -> None:
        tensor.copy_(mean + scale * torch.randn(tensor.shape, generator=generator))

    embeddings = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Embedding)}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.ndim == 0:  # a gate: well away from 0, either sign
            magnitude = 0.3 + 0.9 * torch.rand((), generator=generator)
            sign = 2 * torch.randint(2, (), generator=generator) - 1
            tensor.copy_(sign * magnitude)
        elif name in embeddings:
            normal(tensor, 0.7)
        elif tensor.ndim > 1:  # projections and convolutions: outputs as large as inputs
            normal(tensor, 1.2 * tensor[0].numel() ** -0.5)
        elif name.endswith("bias"):
            normal(tensor, 0.1)
        elif name.endswith("weight"):  # the norms' gains
            normal(tensor, 0.15, mean=1.0)
        else:  # logits of a softmax: mix, codebook and look-back weights
            normal(tensor, 0.8)
    return model
