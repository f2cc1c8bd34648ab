"""The server's log: what happened, and never what was said, not even in the words of an exception."""

from __future__ import annotations

import logging
import traceback

LOG = logging.getLogger("sopro_np.serve")


def log_failure(what: str, error: BaseException) -> None:
    """A fault of ours: its kind and where it came from, without its message, which may quote a text."""
    where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    LOG.error("%s: %s\n%s", what, type(error).__name__, where)
