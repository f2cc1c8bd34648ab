"""Markdown and HTML: marks go, what they mean for speech (ends of headings and list items) stays."""

from __future__ import annotations

import re

from sopro_np.text.aligned import Edit
from sopro_np.text.rule import Rule, rule
from sopro_np.text.typography import plain

BLOCKS = frozenset(
    (
        "address article aside blockquote body dd div dl dt fieldset figcaption figure footer form h1 h2 h3 "
        "h4 h5 h6 head header hr html li main nav ol option p pre section select table tbody td tfoot th "
        "thead title tr ul"
    ).split()
)
INLINE = frozenset(
    (
        "a abbr acronym b base bdi bdo big button cite code data del details dfn em font i img input ins kbd "
        "label legend link mark meta meter output param picture progress q rp rt ruby s samp small source "
        "span strike strong sub summary sup svg tt u var video wbr audio canvas center iframe object"
    ).split()
)
ENDS = ".!?,;:…"
ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")


def _entity(match: re.Match[str]) -> str | None:
    import html  # here and not above: its table is large

    written = html.unescape(match[0])
    return None if written == match[0] else "".join(c if c.isascii() else plain(c) for c in written)


def _tag(match: re.Match[str]) -> str | None:
    name = match[1].lower()
    if name in BLOCKS:
        return "\n\n" if name not in ("td", "th") else ", " if match[0].startswith("</") else ""
    return "\n" if name == "br" else "" if name in INLINE else None


def _heading_tag(match: re.Match[str]) -> str:
    inside = match[2].strip()
    return f"\n\n{inside}{'' if not inside or inside[-1] in ENDS else '.'}\n\n"


def _numbered(match: re.Match[str]) -> str:
    return f"{match[1]}, "


INLINE_RULES: tuple[Rule, ...] = (
    rule(
        "HTML entity",
        ENTITY.pattern,
        _entity,
        ("salt &amp; pepper", "salt and pepper"),
        ("it&#39;s", "it's"),
    ),
    rule(
        "HTML comment",
        r"<!--(?:(?!--)[\s\S]){0,5000}-->|<!DOCTYPE[^<>]{0,500}>",
        "",
        ("one <!-- x -->two", "one two"),
        flags=re.I,
    ),
    rule(
        "HTML script",
        r"<(script|style)\b[^<>]{0,500}>[^<]{0,50000}</\1>",
        "",
        ("a dog <script>x = 1</script>barks", "a dog barks"),
        flags=re.I,
    ),
    rule(
        "HTML heading or item",
        r"<(h[1-6]|li)\b[^<>]{0,500}>([^<]{0,2000})</\1>",
        _heading_tag,
        ("<h1>News</h1>All is well.", "News.\n\nAll is well."),
        ("<ul><li>eggs</li><li>milk</li></ul>", "eggs.\n\nmilk."),
        flags=re.I,
    ),
    rule(
        "HTML tag",
        r"</?([A-Za-z][A-Za-z0-9]{0,9})\b[^<>]{0,1000}>",
        _tag,
        ("<p>a <b>big</b> dog</p>", "a big dog"),
        ("one<br>two", "one two"),
    ),
    rule("code fence", r"(?m)^(?:```|~~~)[^\n`]{0,60}$", "\n", ("Run:\n```sh\nmake\n```", "Run\n\nmake")),
    rule(
        "image or link",
        r"!?\[([^\[\]\n]{0,500})\]\((?:[^()\s]|\([^()\s]{0,200}\)){0,500}(?: \"[^\"\n]{0,200}\")?\)",
        r"\1",
        ("See [the page](https://a.org/x).", "See the page."),
        ("![a cat](cat.png) sleeps", "a cat sleeps"),
    ),
    rule(
        "reference mark",
        r"(?<!\b[a-z])(?<=[\w.,!?])\[\^?[1-9]\d{0,2}\](?! ?[-+*/<>=]|\.\w)",
        "",
        ("It is so.[1] Yes.", "It is so. Yes."),
    ),
    rule(
        "emphasis",
        r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*])\1(?![\w*])",
        r"\2",
        ("a **big** and *old* dog", "a big and old dog"),
    ),
    rule(
        "underscore emphasis",
        r"(?<![\w_])(_{1,3})(?=[^\s_])([^_\n]{1,500}?)(?<=[^\s_])\1(?![\w_])",
        r"\2",
        ("a _big_ dog", "a big dog"),
    ),
    rule("struck out", r"~~([^~\n]{1,500})~~", r"\1", ("an ~~old~~ dog", "an old dog")),
    rule("code span", r"`{1,3}([^`\n]{1,500})`{1,3}", r"\1", ("Type `make` now.", "Type make now.")),
)

# (what a line is, its form, what stands before its text from here on)
LINES = (
    ("heading", re.compile(r"#{1,6} (?=\S)"), ""),
    ("rule", re.compile(r"(?:[-*_=] ?){3,}$"), ""),
    ("table rule", re.compile(r"\|?(?: ?:?-{2,}+:? ?\|?){1,50}$"), ""),
    ("row", re.compile(r"\| ?(?=.*\|)"), ""),
    ("item", re.compile(r"[-*+•–] (?:\[[ xX]\] )?(?=\S)"), ""),
    ("numbered", re.compile(r"(\d{1,2})[.)] (?=\S)"), "number"),
    ("quote", re.compile(r"(?:>(?!\d) ?){1,5}(?=\S)"), ""),
    ("comment", re.compile(r"(?://+|/\*+|#(?=!?\s)) ?(?=\S)"), ""),
)  # fmt: skip
OWN_PARAGRAPH = {"heading", "row", "item", "numbered"}


def line_edits(text: str) -> list[Edit]:
    """Marks at the beginnings of lines are taken away; headings and items end with a full stop and a paragraph."""
    edits: list[Edit] = []
    kind, end = "blank", 0  # of what came before: its kind, and where its text ends
    at = 0
    for line in text.split("\n"):
        start, at = at, at + len(line) + 1
        now, mark, before = "plain" if line else "blank", 0, ""
        for name, form, lead in LINES:
            found = form.match(line)
            if found and name == "numbered" and kind == "plain" and text[end - 1] not in ".!?:;":
                continue  # a date or number that hard wrapping put here
            if found:
                now, mark = name, found.end()
                before = f"{found[1]}, " if lead else ""
                break
        if now == "rule" or now == "table rule":
            if kind in ("plain", "quote") and line[0] in "=-":  # an underlined heading
                kind = "heading"
            edits.append((start, start + len(line), ""))
            continue
        if now == "blank":
            if kind in OWN_PARAGRAPH and end and text[end - 1] not in ENDS:
                edits.append((end, end, "."))
            kind = "blank"
            continue
        if kind in OWN_PARAGRAPH and (now != "plain" or kind in ("heading", "row")):
            edits.append((end, end, ("" if text[end - 1] in ENDS else ".") + "\n"))
        elif kind in ("plain", "quote") and now in OWN_PARAGRAPH:
            edits.append((end, end, "\n"))
        if mark:
            edits.append((start, start + mark, before))
        end = start + len(line)
        if now == "row":
            edits += [
                (start + m.start(), start + m.end(), ", ") for m in re.finditer(r" ?\| ?(?=[^|]*\|)", line) if m.start()
            ]
            last = re.search(r" ?\|$", line)
            if last:
                edits.append((start + last.start(), start + len(line), ""))
                end = start + last.start()
        kind = now if now != "plain" or kind not in ("item", "numbered") else kind
    if kind in OWN_PARAGRAPH and end and text[end - 1] not in ENDS:
        edits.append((end, end, "."))
    return sorted(edits, key=lambda e: (e[0], e[1]))
