"""docs/API.md from the docstrings: python tools/make_api_page.py [--check]"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sopro_np  # noqa: E402
from sopro_np.wav import write_wav  # noqa: E402

PAGE = ROOT / "docs" / "API.md"
HEAD = """# The Python interface

Everything that `import sopro_np` offers. Made from the docstrings by tools/make_api_page.py; change those.
`options` are the fields of [Options](#class-options) everywhere. Shapes in brackets; T, n: any number.
"""
FUNCTIONS = (sopro_np.load, sopro_np.synthesize, write_wav)
CLASSES = (sopro_np.Sopro, sopro_np.Voice, sopro_np.Speech, sopro_np.SpeechBatch, sopro_np.Job, sopro_np.Options)
MADE_BY_US = CLASSES[:-1]  # nobody calls their constructors
THE_BATCH_CALLS = {"begin", "hear", "collect", "fail", "end", "wants"}  # of a Job


def signature(name: str, call: Any) -> str:
    """As it is written, without self; one argument a line where it is long. Indented: a code block."""
    found = inspect.signature(call)
    arguments = [str(p).replace("'", "") for n, p in found.parameters.items() if n != "self"]
    if any(p.kind is p.KEYWORD_ONLY for p in found.parameters.values()):
        first = next(n for n, p in found.parameters.items() if p.kind is p.KEYWORD_ONLY)
        arguments.insert([n for n in found.parameters if n != "self"].index(first), "*")
    result = "" if found.return_annotation in ("None", found.empty) else f" -> {found.return_annotation}"
    line = f"    {name}({', '.join(arguments)}){result}"
    if len(line) <= 100:
        return line
    return "\n".join([f"    {name}(", *(f"        {argument}," for argument in arguments), f"    ){result}"])


def text(thing: Any) -> str:
    doc = inspect.getdoc(thing) or ""
    return doc.replace("<", "&lt;").strip()


def members(kind: type) -> list[str]:
    """Public methods and properties with a docstring, in the order they are written."""
    parts = []
    own = {
        name: member
        for c in reversed(kind.__mro__)
        if c.__module__.startswith("sopro_np")
        for name, member in vars(c).items()
    }
    for name, member in own.items():
        if name.startswith("_") or not inspect.getdoc(member):
            continue
        if kind is sopro_np.Job and name in THE_BATCH_CALLS:
            continue
        if isinstance(member, property):
            parts += [f"### .{name}", text(member)]
        elif isinstance(member, classmethod):
            parts += [f"### .{name}", signature(f"{kind.__name__}.{name}", getattr(kind, name)), text(member)]
        elif inspect.isfunction(member):
            parts += [f"### .{name}", signature(name, member), text(member)]
    return parts


def page() -> str:
    parts = [HEAD.strip(), "## Functions"]
    for function in FUNCTIONS:
        parts += [f"### {function.__name__}", signature(function.__name__, function), text(function)]
    for kind in CLASSES:
        parts += [f"## class {kind.__name__}", text(kind)]
        if kind not in MADE_BY_US:
            parts.insert(-1, signature(kind.__name__, kind))
        parts += members(kind)
    parts += ["## Errors", "All are SoproError; the command line leaves with the exit code."]
    errors = [getattr(sopro_np, name) for name in sopro_np.__all__]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, sopro_np.SoproError)]
    parts.append("\n".join(["| error | exit code | when |", "|---|---|---|"]
                           + [f"| {e.__name__} | {e.exit_code} | {text(e)} |" for e in errors]))  # fmt: skip
    parts += ["## SoproWarning", f"{text(sopro_np.SoproWarning)} A UserWarning; Python's `warnings` filters apply."]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is out of date")
    if parser.parse_args().check:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page():
            print(f"{PAGE} is out of date: python tools/make_api_page.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
