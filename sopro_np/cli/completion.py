"""`sopro-np completion`: a script for the shell, made by shtab from the options themselves."""

from __future__ import annotations

import argparse

from sopro_np.cli.parser import build_parser
from sopro_np.errors import ModelError


def run(args: argparse.Namespace) -> int:
    """The script on stdout."""
    try:
        import shtab
    except ImportError:
        raise ModelError("completion needs shtab, which is not installed: pip install shtab") from None
    print(shtab.complete(build_parser(), args.shell))
    return 0
