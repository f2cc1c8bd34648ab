"""Our tokenizer gives the ids of the `tokenizers` library: every script, every supported kind, random BPEs.

The tokenizers are trained here on generated text. Reproduce the figures of load time and memory with
`pytest tests/test_tokenizer.py -k light -s`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sopro_np.convert.tokenizer import byte_characters, compile_tokenizer, read_tokenizer
from sopro_np.errors import FormatError, TokenizerError, UsageError
from sopro_np.tokenizer import DTYPES, PREFIX, Tokenizer

reference = pytest.importorskip("tokenizers")

DEMO = Path(__file__).parent / "data" / "tokenizer_demo"
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CASED = (  # tells upper from lower case and letters from marks
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'ll)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'re|'ve|'[dm])?"
    r"|\p{Nd}{1,3}|\p{N}|\p{P}+|\p{S}++|\p{Cn}+|\s+(?!\S)|\s"
)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
HAND = [
    "", " ", "\n", "   leading", "trailing   ", "  \n  \n ", "\t\t \n \r\n\r\n  \u00a0\u3000\u2028x\u0085 ",
    "It's I'M we'LL they’re DON'T 'S'T 'ſ 'sſ o'Kay you'd've ''s",
    "naïve café cafe\u0301 e\u0301\u0323 Å \u212b ﬁ ſt", "Ǆ ǅ İi ΟΔΟΣ ΑΣ",
    "1 12 123 1234 12345 3.14 1,000,000 ٣٤٥ १२३ Ⅷ ½ ²³", "$€¥£ ±×÷ ∑∫√", "…—–“”‘’«»",
    "👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪🇫🇷 ❤️ #️⃣", "שָׁלוֹם עולם", "مرحبا بالعالم \u200fabc\u200e",
    "สวัสดีชาวโลก", "हिन्दी में", "你好,世界。漢字かな交じり文",
    "한국어 \u1112\u1161\u11ab", "https://example.org/a_b?c=d&e=%20f#g user@host.tld",
    "def f(x):\n\treturn x**2  # square\n\n\n", "for (int i=0;i<n;++i) {\r\n    a[i] += b->c;\r\n}",
    "<|begin_of_text|>Hi<|eot|> <|eot |> <|EOT|>", "\x00\x01\x07\x1b[0m\x7f", "a\u200db\u200c\ufeff\u2060",
    "QQ QQs qq  Q Q  \u3042 x\u05d0 \u05d0", "x\u0345\u0898\u0334y \u1ab0\u1ac1\u0315",
    "\u3350 \u32ff \ua7f2",
    "\u1c89\ua7cb \U00010d50 \U00016ea0\U0001df40 \U000323b0\u0558 \U00011938 \u0295a\u0294A",
]  # fmt: skip


def corpus() -> list[str]:
    """Over 20 000 strings: every code point in rows of 64, words of each row, mixtures, hand-made cases."""
    draw = random.Random(5)
    starts = (*range(0, 0x32400, 64), *range(0xE0000, 0xE0200, 64), 0x10FFC0)
    rows = [range(start, start + 64) for start in starts]
    scripts = ["".join(chr(c) for c in row if not 0xD800 <= c < 0xE000) for row in rows]
    scripts = [script for script in scripts if script]
    glue = [*" 1_-\n\t\u0301\u200d(é", "", "  ", "'s ", " '", ", ", ". ", "123"]
    texts = list(HAND)
    for script in scripts:
        few = draw.sample(script, 10) if len(script) > 10 else script
        texts += [script, draw.choice(glue).join(few), "".join(c + draw.choice(glue) for c in few)]
        words = ["".join(draw.choices(script, k=draw.randint(1, 5))) for _ in range(4)]
        texts.append(draw.choice(glue).join(words))
    while len(texts) < 20_500:
        pools = draw.choices(scripts, k=2) + draw.choices(scripts[1:24], k=3) + scripts[:2]
        words = ["".join(draw.choices(draw.choice(pools), k=3)) + draw.choice(glue) for _ in range(5)]
        texts.append("".join(words))
    return texts


TEXTS = corpus()


def training_text() -> Iterator[str]:
    draw = random.Random(7)
    letters = [
        "abcdefghijklmnopqrstuvwxyz",
        "ETAOINSH",
        "абвгдежзийклмн",
        "αβγδεζηθ",
        "あいうえお",
        "אבגדהוז",
        "0123456",
    ]
    words = ["".join(draw.choices(group, k=draw.randint(1, 9))) for group in letters for _ in range(300)]
    words += ["👍🏽", "...", "),", "http://", "é", "'s", "'ll", "\n\n", "    ", "中文", "한국"] * 9
    weights = [1 / (1 + k) for k in range(len(words))]
    draw.shuffle(words)
    for _ in range(3000):
        yield " ".join(draw.choices(words, weights, k=12))
    yield from draw.sample(TEXTS, 1500)


def trained(vocab_size: int, pattern: str | None) -> dict[str, Any]:
    """A byte-level tokenizer.json: with `pattern` as Llama 3 does it, without as GPT-2."""
    pre = reference.pre_tokenizers
    tokenizer = reference.Tokenizer(reference.models.BPE())
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    if pattern:
        split = pre.Split(reference.Regex(pattern), "isolated")
        last = pre.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre.Sequence([split, last])
    trainer = reference.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=byte_characters(), limit_alphabet=256, show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    result: dict[str, Any] = json.loads(tokenizer.to_str())
    return result


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": index, "content": content, **{name: flags.get(name, False) for name in names}}


def llama() -> dict[str, Any]:
    """As a converted tiktoken file: every way to split a token is a merge; some tokens have none."""
    spec = trained(3500, LLAMA)
    vocab = spec["model"]["vocab"]
    spec["model"]["ignore_merges"] = True
    spec["model"]["merges"] = [
        [token[:cut], token[cut:]]
        for token, index in sorted(vocab.items(), key=lambda item: item[1])
        for cut in range(1, len(token))
        if index % 10 and token[:cut] in vocab and token[cut:] in vocab
    ]
    names = ["<|begin_of_text|>", "<|eot|>", *(f"<|reserved_{i}|>" for i in range(250)), "<|pad|>"]
    spec["added_tokens"] = [added(len(vocab) + k, name, special=True) for k, name in enumerate(names)]
    return spec


def gpt2() -> dict[str, Any]:
    spec = trained(2000, None)
    spec["pre_tokenizer"]["add_prefix_space"] = True
    spec["added_tokens"] = [added(2000, "<|endoftext|>", special=True)]
    return spec


def nfc() -> dict[str, Any]:
    spec = trained(1500, CASED)
    spec["normalizer"] = {"type": "NFC"}
    spec["model"]["merges"] = [" ".join(merge) for merge in spec["model"]["merges"]]  # the older spelling
    return spec


def lower_nfkd() -> dict[str, Any]:
    """Two patterns, a normalizer of two steps, a token for unknown bytes, and added tokens with flags."""
    spec = trained(1000, LLAMA)
    spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Lowercase"}]}
    digits = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
    spec["pre_tokenizer"]["pretokenizers"].insert(0, digits)
    spec["model"]["vocab"] = vocab = {
        token: k for k, token in enumerate(t for t in spec["model"]["vocab"] if t not in "eĀðĠ")
    }
    spec["model"]["merges"] = [
        merge for merge in spec["model"]["merges"] if all(x in vocab for x in (*merge, "".join(merge)))
    ]
    spec["model"]["unk_token"] = "a"
    spec["model"]["fuse_unk"] = True
    flags = {"QQ": "normalized", "Q Q": "lstrip", "\u3042": "rstrip", "\u05d0": "single_word"}
    spec["added_tokens"] = [added(len(vocab) + k, text, **{flag: True}) for k, (text, flag) in enumerate(flags.items())]
    return spec


def demo() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((DEMO / "tokenizer.json").read_text())
    return spec


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "llama": llama, "gpt2": gpt2, "nfc": nfc, "lower_nfkd": lower_nfkd, "demo": demo,
}  # fmt: skip
Pair = tuple[Tokenizer, Any]


def both(spec: dict[str, Any], file: Path) -> Pair:
    """Ours and the reference for one tokenizer.json."""
    file.write_text(json.dumps(spec))
    return Tokenizer(compile_tokenizer(file, bos=1, eos=2)), reference.Tokenizer.from_file(str(file))


def check_same(pair: Pair, texts: Iterable[str]) -> None:
    ours, theirs = pair
    texts = list(texts)
    for text, expected in zip(texts, theirs.encode_batch(texts, add_special_tokens=False), strict=True):
        assert ours.encode(text).tolist() == [1, *expected.ids, 2], ascii(text)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return cache(lambda kind: both(KINDS[kind](), folder / f"{kind}.json"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch tokenizer.json."""
    return tmp_path_factory.mktemp("scratch") / "tokenizer.json"


@pytest.mark.parametrize("kind", KINDS)
def test_equal_on_every_script(pairs: Callable[[str], Pair], kind: str) -> None:
    assert len(TEXTS) > 20_000
    check_same(pairs(kind), TEXTS if kind == "llama" else TEXTS[::3])


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.text(max_size=60), max_size=8))
def test_equal_on_any_text(pairs: Callable[[str], Pair], kind: str, texts: list[str]) -> None:
    check_same(pairs(kind), texts)


MARKS = st.sampled_from(
    "aeAÅσΣ\u0301\u0323\u0345\u0315\u093c\u1100\u1161\u11a8\uac00\u1112\u0897\u1acf\U00011935\U00011930"
    "\U0001611e\U000113c2\U000105d2\u0307\U0001e030\ufb01\u212b\u0958\u05ff㋿\U0001fbf5"
)


FORMS = pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"])


def only_bytes(form: str | None, file: Path, tokens: list[dict[str, Any]] | None = None) -> Pair:
    """A tokenizer whose ids are the bytes of the normalized text."""
    vocab = {char: index for index, char in enumerate(byte_characters())}
    spec = {"added_tokens": tokens or [], "normalizer": {"type": form} if form else None,
            "pre_tokenizer": BYTE_LEVEL, "model": {"type": "BPE", "vocab": vocab, "merges": []}}  # fmt: skip
    return both(spec, file)


@FORMS
def test_normalizers_on_any_marks(file: Path, form: str) -> None:
    pair = only_bytes(form, file)

    @given(st.lists(st.text(MARKS, max_size=12), min_size=1))
    def check(texts: list[str]) -> None:
        check_same(pair, texts)

    check()


@FORMS
def test_normalizers_on_every_character(file: Path, form: str) -> None:
    """Alone, and between marks of other classes, which shows its combining class."""
    pair = only_bytes(form, file)
    bulk = {*range(0x3500, 0x9F00), *range(0xAC10, 0xD790), *range(0xD800, 0xE000), *range(0x20000, 0x2F000)}
    codes = [c for c in (*range(0x31400), *range(0xE0100, 0xE0200)) if c not in bulk]  # without Han and Hangul
    marked = [f"{chr(c)}a\u0345{chr(c)}\u0334\u0316" for c in codes]
    check_same(pair, ["".join(marked[k : k + 50]) for k in range(0, len(marked), 50)])


@st.composite
def random_bpe(draw: st.DrawFn) -> dict[str, Any]:
    """Merges in any order over three letters; several may make the same token; x is unknown."""
    tokens = ["a", "b", "c"]
    merges: list[list[str]] = []
    for _ in range(draw(st.integers(0, 14))):
        merges.append([draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))])
        tokens.append("".join(merges[-1]))
    tokens += [draw(st.text("abc", min_size=2, max_size=6))]
    merges = draw(st.permutations(merges))
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    unk = draw(st.sampled_from([None, "a"]))
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": unk,
             "fuse_unk": draw(st.booleans()), "ignore_merges": draw(st.booleans())}  # fmt: skip
    return {"added_tokens": [], "pre_tokenizer": BYTE_LEVEL, "model": model}


@given(spec=random_bpe(), texts=st.lists(st.text("abcx", max_size=30), max_size=10))
@settings(max_examples=300)
def test_merges_of_any_bpe(file: Path, spec: dict[str, Any], texts: list[str]) -> None:
    check_same(both(spec, file), texts)


FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
)


@given(
    contents=st.lists(st.text("aBé <", min_size=1, max_size=3), min_size=1, max_size=5, unique=True),
    flags=st.lists(FLAGS, min_size=5, max_size=5),
    lower=st.booleans(),
    texts=st.lists(st.text("aAbBé <\n_\u3000\u0558", max_size=24), max_size=12),
)
@settings(max_examples=300)
def test_added_tokens(
    file: Path, contents: list[str], flags: list[dict[str, bool]], lower: bool, texts: list[str]
) -> None:
    vocab = {char: index for index, char in enumerate(byte_characters())}
    tokens: list[dict[str, Any]] = []
    for content, flag in zip(contents, flags, strict=False):
        fresh = 256 + sum(token["id"] >= 256 for token in tokens)
        tokens.append(added(vocab.get(content, fresh), content, **flag))
    if any(token["rstrip"] for token in tokens) and any(token["content"].startswith(" ") for token in tokens):
        with pytest.raises(TokenizerError, match="rstrip"):
            only_bytes("Lowercase" if lower else None, file, tokens)
    else:
        check_same(only_bytes("Lowercase" if lower else None, file, tokens), texts)


def test_long_words_are_not_quadratic(pairs: Callable[[str], Pair]) -> None:
    draw = random.Random(3)
    letters = "".join(draw.choices("etaoin", k=100_000))
    check_same(pairs("llama"), ["a" * 100_000, letters, "0" * 10_000, " " * 50_000])


def test_empty_matches_cut_as_oniguruma_does(tmp_path: Path) -> None:
    spec = demo()
    for pattern in ("a*", "|a", "(?=b)", "b??", "(?:)"):
        spec["model"]["vocab"] |= {"ab": 36, "aa": 37, "bb": 38, "ba": 39}
        spec["model"]["merges"] = [["a", "b"], ["a", "a"], ["b", "b"], ["b", "a"]]
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]}
        check_same(both(spec, tmp_path / "tokenizer.json"), ["", "aab", "baab", "xaaabbab", "bbbb", "abcabc"])


def test_directory_gives_bos_and_eos() -> None:
    tokenizer = Tokenizer(compile_tokenizer(DEMO))
    assert (tokenizer.bos, tokenizer.eos, tokenizer.vocab_size) == (1, 2, 36)
    assert tokenizer.encode("").tolist() == [1, 2]
    assert tokenizer.encode("Hi <eos>").tolist() == [1, 12, 13, 4, 2, 2]
    assert tokenizer.encode("a").dtype == np.int32
    swapped = Tokenizer(compile_tokenizer(DEMO, bos=2, eos=1))
    assert (swapped.bos, swapped.eos) == (2, 1)


def test_tokens_that_only_the_config_names(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(json.dumps(demo()))
    config = json.loads((DEMO / "tokenizer_config.json").read_text()) | {
        "pad_token": {"__type": "AddedToken", "content": "<|new|>", "normalized": False, "rstrip": True},
        "mask_token": "<mask>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer(compile_tokenizer(tmp_path))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.vocab_size == len(theirs)
    for text in ("a<|new|>  b <mask> c", "<pad><|NEW|>"):
        assert ours.encode(text)[1:-1].tolist() == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("class_", ["PreTrainedTokenizerFast", "GPT2Tokenizer", None])
def test_where_the_ends_are_named(tmp_path: Path, class_: str | None, decoder: bool) -> None:
    """tokenizer_config.json, special_tokens_map.json (which wins without added_tokens_decoder), or neither."""
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(demo()))
    names = {"bos_token": "<bos>", "eos_token": {"content": "<eos>", "lstrip": False}}
    others = {"bos_token": "<unk>", "eos_token": "<unk>"}
    for config, special, expected in (
        (names, {}, (1, 2)), ({}, names, (1, 2)), (names, others, (1, 2) if decoder else (3, 3)),
        ({}, {"bos_token": "<bos>"}, None), ({}, {}, None),
    ):  # fmt: skip
        stated = {**config, **({"tokenizer_class": class_} if class_ else {})}
        stated |= {"added_tokens_decoder": {"1": added(1, "<bos>", special=True)}} if decoder else {}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
        if expected is None and class_ != "PreTrainedTokenizerFast":
            with pytest.raises(TokenizerError, match=r"no (bos|eos)_token.*--bos ID --eos ID"):
                compile_tokenizer(tmp_path)
            continue
        arrays, passed_over = read_tokenizer(tmp_path)
        assert (Tokenizer(arrays).bos, Tokenizer(arrays).eos) == (expected or (None, None))
        assert passed_over["missing"] == ([] if expected else ["bos_token", "eos_token"])
        with pytest.raises(TokenizerError, match="--eos 99"):
            compile_tokenizer(tmp_path, bos=1, eos=99)


def test_ends_must_be_known(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(demo()))
    for source in (file, tmp_path):
        with pytest.raises(TokenizerError, match=r"--bos.*--eos"):
            compile_tokenizer(source)
    with pytest.raises(TokenizerError, match="--eos 36"):
        compile_tokenizer(file, bos=1, eos=36)
    with pytest.raises(TokenizerError, match="does not exist"):
        compile_tokenizer(tmp_path / "nothing.json")
    file.write_text("{")
    with pytest.raises(TokenizerError, match="JSON"):
        compile_tokenizer(file)


def split(pattern: dict[str, str], behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    step = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, BYTE_LEVEL]}}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        ({"model": {"type": "Unigram"}}, "Unigram"),
        ({"model": {"type": "WordLevel"}}, "WordLevel"),
        ({"model": None}, "model"),
        ({"model.dropout": 0.1}, "dropout"),
        ({"model.byte_fallback": True}, "byte_fallback"),
        ({"model.continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ({"model.end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"model.surprise": 1}, "surprise"),
        ({"model.unk_token": "<none>"}, "<none>"),
        ({"model.merges": ["a b"]}, "'ab'"),
        ({"model.merges": ["a"]}, "merge"),
        ({"model.vocab": {"a": -1}}, "ids"),
        ({"model.vocab": {"a": 0, "b": 0}}, "one id"),
        ({"normalizer": {"type": "Replace"}}, "Replace"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "StripAccents"}]}}, "StripAccents"),
        ({"pre_tokenizer": None}, "byte-level"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "Metaspace"),
        ({"pre_tokenizer": {"pretokenizers": [{"type": "Digits"}, BYTE_LEVEL]}}, "Digits"),
        (split({"Regex": "a"}, "Removed"), "Removed"),
        (split({"Regex": "a"}, "MergedWithPrevious"), "MergedWithPrevious"),
        (split({"Regex": "a"}, invert=True), "invert"),
        (split({"String": " "}), "String"),
        *((split({"Regex": pattern}), "pattern") for pattern in (
            r"\w+", "^a", "a.b", "(?<=a)b", "(?i:ss)", "(?i:é)", "[[:alpha:]]", "[a&&b]", "a{1,2}+", "("
        )),
        ({"normalizer": "NFC"}, "laid out"),
        ({"added_tokens": [5]}, "added token"),
        ({"added_tokens": [added(99, "<x>")]}, "99"),
        ({"added_tokens": [added(36, "<x>"), added(36, "<x>")]}, "twice"),
    ],
)  # fmt: skip
def test_refused_by_name(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    spec = demo()
    for key, value in change.items():
        outer, _, inner = key.partition(".")
        (spec[outer] if inner else spec)[inner or outer] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(TokenizerError, match=name):
        compile_tokenizer(tmp_path / "tokenizer.json", bos=1, eos=2)


def test_unknown_settings_that_are_off(tmp_path: Path) -> None:
    """What a later release adds and does not use is named and changes no id; what it uses is refused."""
    file, spec = tmp_path / "tokenizer.json", demo()
    file.write_text(json.dumps(spec))
    plain, nothing = read_tokenizer(file, bos=1, eos=2)
    assert nothing == {"settings": [], "missing": []}
    for where, record in (("tokenizer.json", spec), ("model", spec["model"]), ("<bos>", spec["added_tokens"][1])):
        for value in (None, False, 1):
            record["later"] = value
            file.write_text(json.dumps(spec))
            if value:
                with pytest.raises(TokenizerError, match=f"unknown settings .*{where}.*later"):
                    read_tokenizer(file, bos=1, eos=2)
                continue
            arrays, passed_over = read_tokenizer(file, bos=1, eos=2)
            assert len(passed_over["settings"]) == 1
            assert where in passed_over["settings"][0]
            assert all(np.array_equal(arrays[name], plain[name]) for name in plain)
        del record["later"]


def test_config_that_contradicts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(demo()))
    config = json.loads((DEMO / "tokenizer_config.json").read_text())
    stated = {"1": added(1, "<bos>", special=True, lstrip=True)}
    changes: dict[str, dict[str, Any]] = {
        "<bos>": {"added_tokens_decoder": stated}, "add_prefix_space": {"add_prefix_space": True}
    }  # fmt: skip
    for name, change in changes.items():
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | change))
        with pytest.raises(TokenizerError, match=name):
            compile_tokenizer(tmp_path)


def test_lone_surrogate_is_refused(pairs: Callable[[str], Pair]) -> None:
    with pytest.raises(UsageError, match="character 2"):
        pairs("llama")[0].encode("ab\udc80")


@pytest.mark.parametrize("name", list(DTYPES))
def test_missing_or_misshapen_tensor(name: str) -> None:
    arrays = compile_tokenizer(DEMO)
    array = arrays.pop(PREFIX + name)
    with pytest.raises(FormatError, match=name):
        Tokenizer(arrays)
    for bad in (array.astype(np.float32), array[None], np.zeros((), array.dtype)):
        with pytest.raises(FormatError, match=name):
            Tokenizer({**arrays, PREFIX + name: bad})
    if name != "merges":  # any length will do
        longer = np.concatenate([array, np.ones(3, array.dtype)])
        with pytest.raises(FormatError):
            Tokenizer({**arrays, PREFIX + name: longer})
    with pytest.raises(FormatError, match="surprise"):
        Tokenizer({**arrays, PREFIX + name: array, PREFIX + "surprise": array})


def test_damage_never_escapes(file: Path) -> None:
    """Any damaged entry: ids in range, or FormatError. No other exception, no endless loop."""
    spec = llama()
    spec["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(spec))
    whole = compile_tokenizer(file, bos=1, eos=2)

    @given(st.data())
    @settings(max_examples=300)
    def check(data: st.DataObject) -> None:
        name = PREFIX + data.draw(st.sampled_from(list(DTYPES)))
        array = whole[name].copy()
        flat, top = array.reshape(-1), np.iinfo(array.dtype)
        start = data.draw(st.integers(0, flat.size - 1))
        length = data.draw(st.sampled_from([1, 40, flat.size]))
        flat[start : start + length] = data.draw(
            st.sampled_from([-1, 0, 1, 255, 4000, top.max]) if top.min < 0 else st.integers(0, 255)
        )
        try:
            tokenizer = Tokenizer({**whole, name: array})
            for text in ("The quick <|eot|> it's 1234  \n ETAOIN", TEXTS[300]):
                ids = tokenizer.encode(text)
                assert all(0 <= index < tokenizer.vocab_size for index in ids.tolist())
        except FormatError:
            pass

    check()


LIGHT = """
import json, resource, sys, time
import numpy as np
from sopro_np.tokenizer import DTYPES, PREFIX, Tokenizer
def private():
    rows = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Anonymous"))
arrays = {PREFIX + name: np.load(f"{sys.argv[1]}/{name}.npy", mmap_mode="r") for name in DTYPES}
before, start = private(), time.perf_counter()
tokenizer = Tokenizer(arrays)
load = time.perf_counter() - start
start = time.perf_counter()
ids = tokenizer.encode("The quick brown fox jumps over the lazy dog, and it's 12345 times faster! " * 4)
first = time.perf_counter() - start
print(json.dumps({"ids": tokenizer.vocab_size, "load_ms": load * 1e3, "encode_ms": first * 1e3,
                  "private_kb": private() - before, "n": len(ids)}))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
def test_light_at_the_size_of_llama(tmp_path: Path) -> None:
    draw = random.Random(1)
    alphabet = byte_characters()
    tokens = dict.fromkeys(alphabet)
    names, merges = list(alphabet), []
    while len(names) < 128_000:
        left, right = names[int(len(names) * draw.random() ** 2)], names[int(len(names) * draw.random() ** 2)]
        if len(left) + len(right) < 14:
            merges.append([left, right])
            if left + right not in tokens:
                tokens[left + right] = None
                names.append(left + right)
    merges += [[token[:cut], token[cut:]] for token in names for cut in (1, 2) if token[:cut] in tokens
               and token[cut:] in tokens][: 280_000 - len(merges)]  # fmt: skip
    vocab = {name: index for index, name in enumerate(names)}
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": True}
    spec = {"added_tokens": [added(128_000 + i, f"<|{i}|>", special=True) for i in range(257)],
            **split({"Regex": LLAMA}), "model": model}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    arrays = compile_tokenizer(tmp_path / "tokenizer.json", bos=128_000, eos=128_001)
    for name in DTYPES:
        np.save(tmp_path / f"{name}.npy", arrays[PREFIX + name])
    command = [sys.executable, "-c", LIGHT, str(tmp_path)]
    home = Path(__file__).parents[1]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=home)
    figures = json.loads(run.stdout)
    print(figures, "merges:", len(merges), "bytes:", sum(array.nbytes for array in arrays.values()))
    assert figures["ids"] == 128_257
    assert figures["private_kb"] < 3000
    assert figures["load_ms"] < 100  # 3 on a quiet machine
