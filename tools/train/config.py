"""config.toml as nested namespaces, with overrides from the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
PLAIN = {"voices", "people", "weights", "mimi", "models", "shares"}  # tables that stay dictionaries


def load_config(path: Path | None = None, overrides: tuple[str, ...] = ()) -> SimpleNamespace:
    """Sections as attributes; an override is "section.key=value" with a JSON value or a bare string.

    Overriding a key that the file does not have is an error: a misspelt one would go unnoticed. `taught` holds all
    sections again, with those in [taught] laid over them.
    """
    table = tomllib.loads((path or HERE / "config.toml").read_text("utf-8"))
    for override in overrides:
        name, _, text = override.partition("=")
        *sections, key = name.split(".")
        target = table
        for section in sections:
            target = target.setdefault(section, {})
        if not _known(table, [*sections, key]):
            raise SystemExit(f"--set {override}: no such key in the configuration")
        try:
            target[key] = json.loads(text)
        except json.JSONDecodeError:
            target[key] = text
    own = table.pop("taught", {})
    found = _namespace(table)
    found.taught = _namespace(_laid_over(table, own))
    return found


def _known(table: dict[str, Any], names: list[str]) -> bool:
    """Whether there is such a key, in [taught] or what it is laid over."""
    found: Any = table
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found is not None or (names[0] == "taught" and len(names) > 1 and _known(table, names[1:]))


def _laid_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables key by key; everything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _laid_over(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
    return merged


def _namespace(table: dict[str, Any]) -> SimpleNamespace:
    plain = {k: v if k in PLAIN or not isinstance(v, dict) else _namespace(v) for k, v in table.items()}
    return SimpleNamespace(**plain)
