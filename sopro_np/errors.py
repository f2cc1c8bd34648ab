"""Every failure a user can cause or meet, as one small family.

The command line prints the message and leaves with `exit_code`; a program catches `SoproError`.
A message names the thing that is wrong and says what to do about it.
"""


class SoproError(Exception):
    """Base of all errors raised on purpose by this package."""

    exit_code = 1


class UsageError(SoproError):
    """The request itself makes no sense (an option out of range, no text, no model named)."""

    exit_code = 2


class NothingToSay(UsageError):
    """A text is empty, or nothing of it can be said."""


class FormatError(SoproError):
    """A file is damaged, not of the expected kind, or does not hold what its header says."""


class AudioError(SoproError):
    """A reference recording cannot be used (not audio, too long, silent, ...)."""


class TokenizerError(SoproError):
    """A tokenizer is not byte-level BPE, or its tables do not fit together."""


class VoiceError(SoproError):
    """A voice file belongs to another model."""


class ModelError(SoproError):
    """A model lacks a part that was asked for, or a limit of the model was exceeded."""


class Full(SoproError):
    """A batch has no place for one more job."""


class ConvertError(SoproError):
    """A source checkpoint cannot be converted as it is."""


class RecipeError(ConvertError):
    """A recipe does not exist, cannot be read, or asks for what a tensor cannot be."""

    exit_code = 2


class DownloadError(SoproError):
    """A published file could not be fetched, or is not the one that was expected."""


class BulkError(SoproError):
    """Work on many lines cannot go on: its folder cannot be written or is in use, or the cluster is gone."""


class OpsError(SoproError):
    """The requested implementation of the operations is not available on this machine."""


class SoproWarning(UserWarning):
    """Something the caller may want to know: nothing failed."""
