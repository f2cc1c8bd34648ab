"""Text normalisation: every rule's examples, properties over any text, and sentences of real shapes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from sopro_np.cli.main import main
from sopro_np.errors import UsageError
from sopro_np.text import spell
from sopro_np.text.aligned import Aligned
from sopro_np.text.lexicon import Respelling
from sopro_np.text.normalise import LINE_EXAMPLES, Spoken, normalise, pipeline, read_lexicon

DATA = Path(__file__).resolve().parent / "data"
EXAMPLES = [
    (rule.name, written, said, day_first)
    for day_first in (False, True)
    for rule in pipeline(day_first)
    for written, said in rule.examples
    if not day_first or rule.name == "numeric date"
]
OUT = re.compile(r"(?:[A-Za-z.,?! ']|\n\n|\[pause [0-9.]+\])*")


def compared(text: str) -> str:
    """Lower case, hyphens as blanks, no punctuation, single blanks."""
    text = text.lower().replace("-", " ")
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.replace("'", "")).split())


def check(text: str, spoken: Spoken) -> None:
    """What holds of every result."""
    assert OUT.fullmatch(spoken.text)
    assert spoken.text == spoken.text.strip() and "  " not in spoken.text
    assert len(spoken.text) == len(spoken.starts) == len(spoken.ends)
    assert all(0 <= a <= b <= len(text) for a, b in zip(spoken.starts, spoken.ends, strict=True))
    assert all(a <= b for a, b in zip(spoken.starts, spoken.starts[1:], strict=False))
    for fired in spoken.fired:
        assert text[fired.start : fired.end] == fired.before


@pytest.mark.parametrize(("name", "written", "said", "day_first"), EXAMPLES)
def test_examples(name: str, written: str, said: str, day_first: bool) -> None:
    spoken = normalise(written, day_first=day_first)
    assert spoken.text == said
    assert written == said or name in {fired.rule for fired in spoken.fired}
    check(written, spoken)


@pytest.mark.parametrize(("written", "said"), LINE_EXAMPLES)
def test_lines(written: str, said: str) -> None:
    assert normalise(written).text == said


def test_there_are_forty_families_each_with_an_example() -> None:
    rules = pipeline(False)
    assert len({rule.name for rule in rules}) == len(rules) >= 40
    assert not [rule.name for rule in rules if not rule.examples]


# what a rule must leave to others
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("She said no. 5 people left.", "She said no. five people left."),
        ("7/10 of a mile", "seven tenths of a mile"),
        ("1/2 x = 3", "one half x equals three"),
        ("v = 5 m/s", "v equals five meters per second"),
        ("use * for all", "use for all"),
        ("Free* with purchase", "Free with purchase"),
        ("Rooms 3-14", "Rooms three to fourteen"),
        ("They won 10-4.", "They won ten to four."),
        ("a 4K monitor", "a four K monitor"),
        ("Seat 30C", "Seat thirty C"),
        ("Mark 3:30 pm", "Mark three thirty P M"),
        ("the 1st St. Louis bridge", "the first Saint Louis bridge"),
        ("McDonald, BSc", "McDonald, B S C"),
        ("> quoted text", "quoted text"),
        (">100 people", "more than one hundred people"),
        ("part i did", "part i did"),
        ("12 St Johns Road", "twelve Saint Johns Road"),
        ("5 min. later", "five minutes later"),
        ("x = 5 on the 22nd", "x equals five on the twenty second"),
        ("x = 5 kg", "x equals five kilograms"),
        ("kids <3 years", "kids less than three years"),
        ("the * key", "the star key"),
    ],
)
def test_neighbours_of_rules(written: str, said: str) -> None:
    assert normalise(written).text == said


SENTENCES = [
    json.loads(line)
    for name in ("spoken.jsonl", "spoken_blind.jsonl")
    if (DATA / name).exists()
    for line in (DATA / name).read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda s: s["text"][:40])
def test_sentences_of_real_shapes(sentence: dict[str, str | list[str]]) -> None:
    accepted = sentence["spoken"] if isinstance(sentence["spoken"], list) else [sentence["spoken"]]
    assert compared(normalise(str(sentence["text"])).text) in map(compared, accepted)


# ---------------------------------------------------------------- properties

PIECES = st.sampled_from(
    ["Dr.", "Smith", "St.", "$", "5", "1,234.56", "12:30", "pm", "-", "–", "—", "...", "[", "]", "(", ")", "<", ">", "*", "_", "#", "`", "~", "^", "/", "\\", "|", "@", "&", "%", "°", "½", "²", "’", "”", "😀", "é", "ß", "μ", "α", "IV", "NASA", "FBI", "e.g.", "http://", "a.com", "x@y.org", "<b>", "</p>", "&amp;", "\n", "\n\n", "-", "1.", "[pause", "1]", "[pause]", "2026-11-28", "11/28", "'90s", "U.S.", "v1.5", "km", "km/h", "1st", "=", "+", "a", "I", ",", ".", "?", "!", "'", '"', "\u200b", "\ufeff", "\x07", "\ue000", "日", "ا", "Mr", "May", "5", "10-20", "0042", "1e5", "x", "C++", "+1", "555-1234", "3x4", "10k", " ", "  ", "\n"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=400), st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=30).map(" ".join)
)


@given(TEXTS, st.booleans(), st.booleans())
def test_any_text(text: str, day_first: bool, lenient: bool) -> None:
    """Spoken or UsageError; and once is as good as twice."""
    try:
        spoken = normalise(text, day_first=day_first, lenient=lenient)
    except UsageError:
        return
    check(text, spoken)
    assert normalise(spoken.text, day_first=day_first).text == spoken.text


@given(st.lists(PIECES, max_size=20))
def test_white_space_changes_nothing(pieces: list[str]) -> None:
    def said(text: str) -> str:
        try:
            return normalise(text, lenient=True).text
        except UsageError:
            return "nothing"

    plain = " ".join(" ".join(pieces).replace("\n", " ").split())
    assert said(plain) == said(f" \t{plain.replace(' ', '   ')}\u00a0 \n") == said(plain.replace(" ", "\t"))


WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=12))
def test_spans_cover_every_word(words: list[str]) -> None:
    text = "  ".join(words) + " 42"
    spoken = normalise(text)
    covered = {i for a, b in zip(spoken.starts, spoken.ends, strict=True) for i in range(a, b)}
    assert covered >= {i for i, c in enumerate(text) if c.isalnum()}


@given(st.one_of(st.integers(0, 10**15), st.integers(0, 3000), st.integers(0, 10**33)))
def test_numbers_as_num2words_has_them(n: int) -> None:
    def same(ours: str, theirs: str) -> bool:
        return ours == " ".join(word for word in re.sub("[-,]", " ", theirs).split() if word != "and")

    assert same(spell.cardinal(n), num2words(n))
    assert same(spell.ordinal(n), num2words(n, to="ordinal"))
    assert same(spell.cardinal(-n), num2words(-n))
    assert normalise(f"It is {n:,}.").text == f"It is {spell.cardinal(n)}."


@given(st.integers(0, 999999), st.text("0123456789", min_size=1, max_size=4))
def test_decimals(n: int, fraction: str) -> None:
    theirs = num2words(f"{n}.{fraction}1")
    ours = normalise(f"{n:,}.{fraction}1 of it").text
    assert compared(ours) == compared(theirs).replace(" and ", " ") + " of it"


# ---------------------------------------------------------------- the odd ones


@pytest.mark.parametrize(
    "text", ["", " ", ".", "?!?!?!", "😀", "\u200b", "\x07", "[pause 1]", "---", "<p></p>", "\ue000", "''"]
)
def test_nothing_to_say(text: str) -> None:
    for lenient in (False, True):
        with pytest.raises(UsageError, match="nothing to say"):
            normalise(text, lenient=lenient)


@pytest.mark.parametrize("text", ["こんにちは", "مرحبا", "Привет", "λόγος", "한국"])
def test_other_scripts(text: str) -> None:
    with pytest.raises(UsageError, match=r"U\+.*--lenient.*--lexicon"):
        normalise(f"We say {text} here.")
    spoken = normalise(f"We say {text} here.", lenient=True)
    assert spoken.text == "We say here." and set(spoken.dropped) <= set(text) and spoken.dropped
    assert normalise(f"We say {text} here.", lexicon={text: "hello"}).text == "We say hello here."
    with pytest.raises(UsageError, match="nothing to say"):
        normalise(text, lenient=True)


def test_a_long_word_is_a_word() -> None:
    assert normalise("a" * 200).text == "a" * 200


@pytest.mark.parametrize("text", [None, b"Hello", ["Hello"], 5])
def test_a_text_must_be_text(text: object) -> None:
    with pytest.raises(UsageError, match="str"):
        normalise(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "piece",
    [
        "7",
        ".",
        " ",
        "a@a@a@",
        "1,",
        "1,111,",
        "<a ",
        "*a ",
        "_a",
        "`a",
        "A.",
        "[",
        "|-",
        "- a\n",
        "$1-",
        "+1 ",
        "/a",
        "’",
        "😀",
        "12:",
    ],
)
def test_long_runs_end(piece: str) -> None:
    """No pattern goes wild: the test's own time limit would stop it."""
    text = piece * (100_000 // len(piece)) + " yes"
    assert normalise(text).text.endswith(("yes", "yes."))


def test_pauses() -> None:
    assert normalise("Wait [pause 0.5] here.").text == "Wait [pause 0.5] here."
    assert normalise("Wait[PAUSE: 1500ms]here [pause] now.").text == "Wait [pause 1.5] here [pause 0.5] now."
    with pytest.raises(UsageError, match="at most 60 seconds"):
        normalise("Wait [pause 61] here.")


def test_a_pause_in_a_respelling_keeps_its_length() -> None:
    lexicon = {"hi": "[pause 2] hey [pause 3] you"}
    assert normalise("hi there [pause 1] hi", lexicon=lexicon).text == (
        "[pause 2] hey [pause 3] you there [pause 1] [pause 2] hey [pause 3] you"
    )
    assert normalise("*so [pause 2] and [pause 3] on*").text == "so [pause 2] and [pause 3] on"


def test_no_rule_shows_what_stands_for_a_pause() -> None:
    fired = normalise("Wait*[pause 2] here*").fired
    assert any("[pause]" in one.after for one in fired) and not any("\ue000" in one.after for one in fired)


@pytest.mark.parametrize("letter", ["𝛼", "α", "ά", "ὰ", "Ἀ"])
def test_one_letter_of_greek_has_its_name(letter: str) -> None:
    assert normalise(f"Say {letter} now.").text == "Say alpha now."


@pytest.mark.parametrize("lexicon", [{"hi": ""}, {"": "x"}, {1: "a"}, {"a": None}, {" ": "x"}])
def test_an_entry_of_a_lexicon_is_two_texts(lexicon: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="lexicon: "):
        normalise("hi there", lexicon=lexicon)


NAMES = st.text("abAB' +日é", min_size=1, max_size=5).filter(str.strip)


@given(st.dictionaries(NAMES, st.just("x y"), max_size=5), st.text("abAB' ’+日é.", max_size=30))
def test_a_lexicon_is_one_long_alternation(lexicon: dict[str, str], text: str) -> None:
    """Looked up word by word; what that finds is what trying all entries at every character would."""
    found = [text[a:b] for a, b, _ in Respelling(lexicon).edits(Aligned(text))]
    entries, expected, at = sorted({" ".join(w.split()) for w in lexicon}, key=len, reverse=True), [], 0
    while at < len(text):
        for word in entries:
            own = re.escape(word).replace("'", "['’]").replace(r"\ ", " +")
            before, after = (r"(?<!\w)" if word[0] in "abABé" else ""), (r"(?!\w)" if word[-1] in "abABé" else "")
            hit = re.compile(before + own + after, re.I if word == word.lower() else 0).match(text, at)
            if hit:
                expected.append(hit[0])
                at = hit.end() - 1
                break
        at += 1
    assert found == expected


def test_spans_point_into_the_text_given() -> None:
    text = "It costs  $1,234.56,  Dr. Smith."
    spoken = normalise(text)
    at = spoken.text.index("one thousand")
    a, b = spoken.span(at, at + len("one thousand two hundred"))
    assert text[a:b] == "$1,234.56"
    at = spoken.text.index("Doctor")
    a, b = spoken.span(at, at + 6)
    assert text[a:b] == "Dr."
    assert spoken.span(0, len(spoken.text)) == (0, len(text))


def test_lexicon(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# names\nNguyen\twin\nsopro = so pro\nC3PO  see three pee oh\ndon’t=do not\n", "utf-8")
    lexicon = read_lexicon(file)
    assert lexicon == {"Nguyen": "win", "sopro": "so pro", "C3PO": "see three pee oh", "don’t": "do not"}
    said = normalise("Sopro, C3PO and Nguyen don't; nguyen and sopros do.", lexicon=lexicon).text
    assert said == "so pro, see three pee oh and win do not, nguyen and sopros do."
    assert normalise("Hello.", lexicon={}).text == "Hello."
    for content, problem in (("word\n", "line 1"), ("a=b\n\na=c\n", "line 3"), ("=x\n", "line 1")):
        file.write_text(content)
        with pytest.raises(UsageError, match=f"words.txt.*{problem}"):
            read_lexicon(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"words\.txt"):
        read_lexicon(file)
    with pytest.raises(UsageError, match="absent"):
        read_lexicon(tmp_path / "absent")


def test_the_page_names_every_rule() -> None:
    page = (DATA.parents[1] / "docs" / "TEXT.md").read_text("utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == [rule.name for rule in pipeline(False)]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["text", "Dr. Smith paid $5.\n\nOn 2/1/2026."]) == 0
    out, err = capsys.readouterr()
    assert out == "Doctor Smith paid five dollars.\nOn February first, twenty twenty six.\n"
    assert "money: '$5' -> 'five dollars'" in err
    assert main(["text", "Say 日."]) == 2
    assert "U+65E5" in capsys.readouterr().err
    assert main(["text", "Say 5日.", "--lenient", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["text"] == "Say five."
    assert facts["dropped"] == "日"
