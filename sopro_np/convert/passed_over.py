"""What upstream's loaders pass over in a source: told to a person, or refused with --strict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from sopro_np.convert.plan import Part
from sopro_np.errors import ConvertError

Tell = Callable[[str], None]
MOST_NAMES = 50  # in one line for a person; the file and the report have all
AS_UPSTREAM = "as upstream's own loader does (--strict refuses)"
# Kind -> what it is, what is odd about it, what becomes of it, what helps where it is refused.
KINDS = {
    "config": ("config key", "unknown to the model", "passed over", "--allow-unknown-config"),
    "tensors": ("tensor", "unknown to the model", "passed over", "--drop PATTERN (repeatable)"),
    "metadata": ("metadata entry", "not understood", "passed over", "a checkpoint without it"),
    "settings": ("setting", "unknown and switched off", "passed over", "a tokenizer.json without it"),
    "missing": ("special token", "not both named", "left out of every text", "--bos ID --eos ID"),
    "filled": ("tensor", "missing", "filled with the constant it starts with", "a complete checkpoint"),
}


def tell_or_refuse(parts: Iterable[Part], strict: bool, allow_unknown_config: bool, tell: Tell | None) -> None:
    """A line for each kind of each part, or (`strict`) ConvertError for the first. `tell` None: Python's warnings."""
    for part in parts:
        for kind, names in {**part.passed_over, "filled": part.filled}.items():
            if not names:
                continue
            what, odd, became, remedy = KINDS[kind]
            line = f"{part.path}: {len(names)} {what}{'s' * (len(names) > 1)} {odd}: {listed(names)}"
            if strict and not (kind == "config" and allow_unknown_config):
                raise ConvertError(f"{line}; to convert all the same leave --strict away, or give {remedy}")
            (tell or _warn)(f"{line}; {became}, {AS_UPSTREAM}")


def recorded(parts: Iterable[Part]) -> dict[str, Any]:
    """The same for programs: {"passed_over": {part: {kind: names}}, "filled": names}."""
    parts = list(parts)
    kinds = {part.prefix: {kind: names for kind, names in part.passed_over.items() if names} for part in parts}
    return {
        "passed_over": {prefix: by_kind for prefix, by_kind in kinds.items() if by_kind},
        "filled": [name for part in parts for name in part.filled],
    }


def listed(names: list[str]) -> str:
    """Names in one line."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _warn(line: str) -> None:
    warnings.warn(line, UserWarning, stacklevel=4)  # where `convert` was called
