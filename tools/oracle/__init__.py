"""Both Sopro generations in torch, written from their numerical specification.

The reference that tests hold the engine to, and the opponent it is benchmarked against. Modules and
parameters bear the published checkpoints' names. Plain float32, no batch axis: it is checked by reading.
"""

from .base import Reference, Sopro, StagePass
from .common import CommonConfig, checkpoint_tensors, randomise, read_checkpoint, save_checkpoint
from .sampling import NucleusSampler, Sampler, argmax, repeated_tail
from .v1 import ConfigV1, SoproV1
from .v15 import ConfigV15, SoproV15

ARCHITECTURES: dict[str, type[Sopro]] = {"sopro_v1": SoproV1, "sopro_v15": SoproV15}

__all__ = [
    "ARCHITECTURES",
    "CommonConfig",
    "ConfigV1",
    "ConfigV15",
    "NucleusSampler",
    "Reference",
    "Sampler",
    "Sopro",
    "SoproV1",
    "SoproV15",
    "StagePass",
    "argmax",
    "checkpoint_tensors",
    "randomise",
    "read_checkpoint",
    "repeated_tail",
    "save_checkpoint",
]
