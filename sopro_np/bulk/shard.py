"""A share of the lines: `--shard i/n`, for as many processes or machines as there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sopro_np.errors import UsageError

FILES = "manifest-*-of-*.jsonl"  # the manifests of shards


@dataclass(frozen=True)
class Shard:
    """Number `index`, from 0, of `count`: every count-th line, from line `index` on."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, given: str) -> Shard:
        """ "2/8" -> the third of eight. UsageError for anything else."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", given)
        if not match or not int(match[1]) < int(match[2]):
            raise UsageError(f"--shard {given}: i/n is needed, i from 0 to n - 1: the first of three is 0/3")
        return cls(int(match[1]), int(match[2]))

    def has(self, place: int) -> bool:
        """Is the line in this place (from 0, blank ones not counted) one of this shard's?"""
        return place % self.count == self.index

    def file(self, stem: str) -> str:
        """Name of a file that belongs to this shard: manifest-0-of-3.jsonl."""
        return f"{stem}-{self.index}-of-{self.count}.jsonl"
