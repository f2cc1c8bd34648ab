"""Signs of program text that would be read as signs of something else: angle brackets, ::, #include, indices, SELECT *."""

from __future__ import annotations

from sopro_np.text.rule import Rule, rule

RULES: tuple[Rule, ...] = (
    rule("directive", r"(?m)^#(include|define|ifdef|ifndef|endif|undef|pragma|import)\b", r"hash \1", ("#include <stdio.h>", "hash include stdio dot H")),
    rule("type of a template", r"(?<=\w)<([A-Za-z_][\w:]{0,40}(?:, ?[A-Za-z_][\w:]{0,40}){0,4})>", r" of \1", ("vector<int> v", "vector of int v")),
    rule("name in angle brackets", r"(?<![\w<])<([A-Za-z_][\w./:@+-]{0,80})>(?!>)", lambda m: m[1] + ("," if m.start() == 0 or m.string[m.start() - 1] == "\n" else ""),
         ("<bob> hello", "bob, hello"), ("Jo <jo@x.org>", "Jo jo at X dot org")),
    rule("scope", r"(?<=\w)::(?=[\w~])", " ", ("std::sort", "std sort")),
    rule("index", r"\b([A-Za-z_]\w{0,30})\[([A-Za-z_]\w{0,20}|\d{1,5}|[a-z] ?[-+] ?\d)\](?!\()", r"\1 sub \2", ("sum += a[i]", "sum plus equals a sub i"), ("a[0] = 5", "a sub zero equals five")),
    rule("all columns", r"(?<=[Ss][Ee][Ll][Ee][Cc][Tt] )\*|(?<=[Cc][Oo][Uu][Nn][Tt])\(\*\)|(?<![\w*])\*(?=\.\w)", " star ", ("SELECT * FROM users", "SELECT star FROM users"), ("COUNT(*)", "COUNT star")),
)  # fmt: skip
