"""What is left of punctuation: . , ? ! and apostrophes inside words; everything else is a pause or nothing."""

from __future__ import annotations

import re

from sopro_np.text.rule import PAUSE, Rule, rule


def _ellipsis(m: re.Match[str]) -> str:
    return "." if re.match(r"[\"')\]]? ?(?:[A-Z\n]|$)", m.string[m.end() : m.end() + 3]) else ","


def _ends(m: re.Match[str]) -> str:
    marks = m[0]
    return "?" if "?" in marks else "!" if "!" in marks else "." if "." in marks else ","


# In well-set plain words none of these is found.
WAKES = (
    r"[^A-Za-z .,?!'\n]|(?<![A-Za-z])'|'(?![A-Za-z])|[.,?!](?![ \n]|\Z)|[.,?!] ?[.,?!]|,(?=\n|\Z)|"
    r"  | (?=[.,?!\n]|\Z)|(?:(?<=\n)|\A)[ .,?!']"
)
RULES: tuple[Rule, ...] = (
    rule("ellipsis", r"\.{2,}", _ellipsis, ("Well... yes", "Well, yes"), ("Well... Yes", "Well. Yes")),
    rule("dash", r" ?[–—•]+ ?| -{1,3} |--+", ", ", ("a dog — a big one", "a dog, a big one"), ("so - yes", "so, yes")),
    rule("aside", r" ?[(\[{] ?|[)\]}](?=[ \n]?[A-Za-z])|[)\]}](?=\ue000)", ", ", ("a dog (a big one) barks", "a dog, a big one, barks")),
    rule("colon", r"[:;]+", ", ", ("eggs: two; milk", "eggs, two, milk")),
    rule("hyphen", r"(?<=\w)-+(?=\w)", " ", ("a well-known fact", "a well known fact")),
    rule("apostrophe", r"(?<![A-Za-z])'+|'+(?![A-Za-z])|''+", "",
         ("'quoted' and don't", "quoted and don't"), ("rock 'n' roll", "rock n roll")),
    rule("silent mark", r"[^A-Za-z.,?! '\n\ue000\x80-\U0010ffff]+", " ", ("\"Go,\" she said", "Go, she said"), ("a\\b | c_d", "a b c d")),
    rule("blank before a mark", r"(?<! ) +(?=[.,?!])", "", ("Why ?", "Why?")),
    rule("run of marks", r"[.,?!](?: ?[.,?!])+", _ends, ("What?!?!", "What?"), ("No!!!", "No!")),
    rule("mark without a word", r"(?:(?<=\n)|\A|(?<=\ue000))[ .,?!']+", lambda m: " " if m.start() and m.string[m.start() - 1] == PAUSE else "", (", so", "so")),
    rule("blank after a mark", r"(?<=[.,?!])(?=[A-Za-z\ue000])", " ", ("one,two", "one, two")),
    rule("blank beside a pause", r"(?<=[A-Za-z.,?!'])(?=\ue000)|(?<=\ue000)(?=[A-Za-z'])", " ", ("so[pause 1]yes", "so [pause 1] yes")),
    rule("blanks in the end", r"  +| +(?=\n)|(?<=\n) +", lambda m: "" if "\n" in m.string[m.end() : m.end() + 1] + m.string[max(m.start() - 1, 0) : m.start()] else " ",
         ("a | b", "a b")),
    rule("comma at a paragraph's end", r",(?=\n|\Z)", "", ("so,", "so")),
)  # fmt: skip
