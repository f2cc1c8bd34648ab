"""What was understood against what was to be said: word and character error rates (by jiwer)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from sopro_np.evaluate.libraries import library

DEFINITION = (
    "WER, CER: (substitutions + deletions + insertions) / words or characters of the text in its spoken form, summed "
    "over all utterances. Both sides: lower case, numbers written out, punctuation removed but for apostrophes inside "
    "words"
)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(st|nd|rd|th)?\b|(\d+)")


@dataclass(frozen=True)
class Errors:
    """Counts, to be summed before they are divided."""

    words: int
    word_errors: int
    characters: int
    character_errors: int


def normalise(text: str) -> str:
    """Lower case; digits written out (num2words); letters, apostrophes inside words and single spaces remain."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    if any(c.isdigit() for c in text):
        text = _NUMBER.sub(_written, text)
    text = "".join(c if c.isalpha() or c == "'" else " " for c in text)
    return " ".join(word for raw in text.split() if (word := raw.strip("'")))


def _written(match: re.Match[str]) -> str:
    digits = match[1] or match[3]
    kind = "ordinal" if match[2] and "." not in digits else "cardinal"
    number = float(digits) if "." in digits else int(digits)
    return f" {library('num2words', 'a text with digits').num2words(number, to=kind)} "


def errors(text: str, heard: str) -> Errors:
    """Counts for one utterance; an empty text has none to be wrong about."""
    jiwer = library("jiwer", "WER and CER")
    text, heard = normalise(text), normalise(heard)
    if not text:
        return Errors(0, 0, 0, 0)
    w, c = jiwer.process_words(text, heard), jiwer.process_characters(text, heard)
    wrong = (r.substitutions + r.deletions + r.insertions for r in (w, c))
    return Errors(len(text.split()), next(wrong), len(text), next(wrong))


def last_words_missing(text: str, heard: str) -> int:
    """How many words at the end of the text have no counterpart (equal or substituted) in what was heard."""
    jiwer = library("jiwer", "truncation")
    text, heard = normalise(text), normalise(heard)
    if not text:
        return 0
    missing = 0
    for chunk in reversed(jiwer.process_words(text, heard).alignments[0]):
        if chunk.type == "insert":
            continue
        if chunk.type != "delete":
            break
        missing += chunk.ref_end_idx - chunk.ref_start_idx
    return missing


def repeats(text: str, heard: str, longest: int = 5) -> int:
    """Words heard twice in a row (a phrase of 1..longest words said again at once) beyond those in the text."""
    return max(0, _repeated(normalise(heard).split(), longest) - _repeated(normalise(text).split(), longest))


def _repeated(words: list[str], longest: int) -> int:
    count, i = 0, 0
    while i < len(words):
        n = next((n for n in range(longest, 0, -1) if words[i : i + n] == words[i - n : i] and i >= n), 0)
        count += n
        i += n or 1
    return count
