"""`sopro-np download`."""

from __future__ import annotations

import argparse
import sys

from sopro_np.cli import process
from sopro_np.hub import download


def run(args: argparse.Namespace) -> int:
    """Fetch, convert, print where the model is."""
    # Only what was given: any of these asks for a new conversion.
    names = ("drop", "allow_unknown_config", "strict", "bos", "eos")
    given = {name: getattr(args, name) for name in names}
    conversion = {name: value for name, value in given.items() if value not in (None, []) and value is not False}
    path = download(
        args.generation,
        recipe=args.recipe,
        revision=args.revision,
        mimi_revision=args.mimi_revision,
        accept_changes=args.accept_changes,
        **conversion,
        progress=lambda line: print(line, file=sys.stderr),
    )
    process.tell(str(path))
    return 0
