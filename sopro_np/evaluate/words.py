"""What was understood against what was to be said: word and character error rates (by jiwer)."""

from __future__ import annotations

from dataclasses import dataclass

from sopro_np.evaluate.libraries import library
from sopro_np.evaluate.spelling import comparable, cut_as

DEFINITION = (
    "WER, CER: (substitutions + deletions + insertions) / words or characters of the text in its spoken form, summed "
    "over all utterances. Both sides: the spoken form as the text front end makes it, lower case, punctuation removed "
    "but for apostrophes inside words, one spelling (American) of what sounds alike, words cut where the text cuts them"
)


@dataclass(frozen=True)
class Errors:
    """Counts, to be summed before they are divided."""

    words: int
    word_errors: int
    characters: int
    character_errors: int


def errors(text: str, heard: str) -> Errors:
    """Counts for one utterance; an empty text has none to be wrong about."""
    jiwer = library("jiwer", "WER and CER")
    said, found = _both(text, heard)
    if not said:
        return Errors(0, 0, 0, 0)
    a, b = " ".join(said), " ".join(found)
    w, c = jiwer.process_words(a, b), jiwer.process_characters(a, b)
    wrong = (r.substitutions + r.deletions + r.insertions for r in (w, c))
    return Errors(len(said), next(wrong), len(a), next(wrong))


def last_words_missing(text: str, heard: str) -> int:
    """How many words at the end of the text have no counterpart (equal or substituted) in what was heard."""
    return _at_the_end(*_both(text, heard), "delete")


def words_beyond(text: str, heard: str, longest: int = 5) -> int:
    """How many words were heard after the text's last one, phrases said again (`repeats`) not counted."""
    said, found = _both(text, heard)
    return _at_the_end(said, _once(found, longest) if _once(said, longest) == said else found, "insert")


def _at_the_end(said: list[str], found: list[str], kind: str) -> int:
    """Words behind the last ones that have a counterpart: of the text ("delete") or of what was heard ("insert")."""
    if not said:
        return 0
    count = 0
    for chunk in reversed(library("jiwer", "alignment").process_words(" ".join(said), " ".join(found)).alignments[0]):
        if chunk.type not in ("insert", "delete"):
            break
        if chunk.type == kind:
            count += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
    return count


def repeats(text: str, heard: str, longest: int = 5) -> int:
    """Words heard twice in a row (a phrase of 1..longest words said again at once) beyond those in the text."""
    said, found = _both(text, heard)
    return max(0, len(found) - len(_once(found, longest)) - len(said) + len(_once(said, longest)))


def _both(text: str, heard: str) -> tuple[list[str], list[str]]:
    """Words of the text and of what was heard, comparable."""
    said = comparable(text).split()
    return said, cut_as(said, comparable(heard).split())


def _once(words: list[str], longest: int) -> list[str]:
    """Without the phrases that are said again at once."""
    kept: list[str] = []
    i = 0
    while i < len(words):
        n = next((n for n in range(longest, 0, -1) if i >= n and words[i : i + n] == words[i - n : i]), 0)
        kept += [] if n else [words[i]]
        i += n or 1
    return kept
