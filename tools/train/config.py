"""config.toml as nested namespaces, with overrides from the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
PLAIN = {"voices", "weights", "mimi", "models", "shares"}  # tables that stay dictionaries


def load_config(path: Path | None = None, overrides: tuple[str, ...] = ()) -> SimpleNamespace:
    """Sections as attributes; an override is "section.key=value" with a JSON value or a bare string.

    Overriding a key that the file does not have is an error: a misspelt one would go unnoticed.
    """
    table = tomllib.loads((path or HERE / "config.toml").read_text("utf-8"))
    for override in overrides:
        name, _, text = override.partition("=")
        *sections, key = name.split(".")
        target = table
        for section in sections:
            target = target.get(section, {})
        if key not in target:
            raise SystemExit(f"--set {override}: no such key in the configuration")
        try:
            target[key] = json.loads(text)
        except json.JSONDecodeError:
            target[key] = text
    return _namespace(table)


def _namespace(table: dict[str, Any]) -> SimpleNamespace:
    plain = {k: v if k in PLAIN or not isinstance(v, dict) else _namespace(v) for k, v in table.items()}
    return SimpleNamespace(**plain)
