"""Measures of sopro_np/evaluate against known answers: constructed signals, brute force, pyworld's and pysptk's values
(tests/world_fixture.py)."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from world_fixture import FILE, RATE, glide

from sopro_np.errors import UsageError
from sopro_np.evaluate import bootstrap, cepstra, dtw, failures, pitch, signals, spelling, words
from sopro_np.evaluate.libraries import MissingLibrary, library

WORLD = load_file(FILE)
seeds = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- waveforms


@given(seeds, st.floats(-60, 60), st.integers(1, 2000))
def test_snr_of_scaled_noise(seed: int, db: float, n: int) -> None:
    """r and an error made to be exactly db below it."""
    rng = np.random.default_rng(seed)
    r, e = rng.standard_normal((2, n))
    e *= np.sqrt(np.square(r).sum() / np.square(e).sum()) * 10 ** (-db / 20)
    assert signals.snr(r, r + e) == pytest.approx(db, abs=1e-6)


def test_snr_at_its_ends() -> None:
    x = np.ones(5)
    assert signals.snr(x, x) == math.inf
    assert math.isnan(signals.snr(0 * x, x))
    with pytest.raises(UsageError, match="shapes"):
        signals.snr(x, x[:3])


@given(seeds, st.floats(-20, 20), st.integers(2, 4000))
def test_lsd_of_a_gain_is_the_gain(seed: int, db: float, n: int) -> None:
    wav = np.random.default_rng(seed).standard_normal(n)
    lsd = signals.log_spectral_distance(wav, wav * 10 ** (db / 20))
    assert lsd <= abs(db) + 1e-9  # bins lifted to the floor differ less
    long = np.random.default_rng(seed).standard_normal(4096)  # no frame is mostly padding: no bin near the floor
    assert signals.log_spectral_distance(long, long * 10 ** (db / 20)) == pytest.approx(abs(db), abs=0.02)


def test_lsd_ignores_what_lies_below_the_floor() -> None:
    tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(8192))
    hiss = np.random.default_rng(0).standard_normal(8192) * 1e-8
    assert signals.log_spectral_distance(tone, tone + hiss) < 1e-2
    assert signals.log_spectral_distance(tone, tone) == 0


@given(st.integers(0, 5000), st.sampled_from([64, 256, 1024]))
def test_spectrogram_of_a_constant(n: int, hop: int) -> None:
    """Bin 0 of a frame that lies inside is the window's sum; the frames cover every sample."""
    s = signals.spectrogram(np.ones(n), hop=hop)
    assert s.shape[1] == signals.FFT // 2 + 1
    assert (len(s) - 1) * hop + signals.FFT >= n > (len(s) - 2) * hop + signals.FFT or len(s) == 1
    if n >= signals.FFT:
        assert s[0, 0] == pytest.approx(signals.FFT / 2)


# ---------------------------------------------------------------- mel-cepstra and MCD


def envelope(c: np.ndarray, alpha: float, fft: int = 1024) -> np.ndarray:
    """Power spectra (T, fft/2 + 1) whose mel-cepstra are exactly c (T, M + 1): the definition, read backwards."""
    omega = np.pi * np.arange(fft // 2 + 1) / (fft // 2)
    bent = omega + 2 * np.arctan(alpha * np.sin(omega) / (1 - alpha * np.cos(omega)))
    return np.exp(2 * (c @ np.cos(np.outer(np.arange(c.shape[1]), bent))))


@given(seeds, st.integers(0, 24), st.floats(0, 0.6))
def test_mel_cepstra_of_constructed_spectra(seed: int, order: int, alpha: float) -> None:
    c = np.random.default_rng(seed).standard_normal((3, order + 1)) * 0.5
    found = cepstra.mel_cepstra(envelope(c, alpha), 24, alpha)
    assert np.abs(found[:, : order + 1] - c).max() < 1e-6
    assert np.abs(found[:, order + 1 :]).max(initial=0) < 1e-6


@given(seeds, st.floats(0.01, 100))
def test_mcd_of_constructed_spectra(seed: int, gain: float) -> None:
    """10/ln10 sqrt(2) |difference|, and the loudness does not matter."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 4, 9)) * 0.3
    found = cepstra.mcd(
        *(cepstra.mel_cepstra(p, 24, 0.466) for p in (envelope(a, 0.466), gain**2 * envelope(b, 0.466)))
    )
    expected = 10 / np.log(10) * np.sqrt(2 * np.square(a[:, 1:] - b[:, 1:]).sum(axis=1)).mean()
    assert found == pytest.approx(expected, rel=1e-5)


def test_one_unit_of_one_cepstrum_is_6_14_db() -> None:
    a = np.zeros((5, 25))
    b = a.copy()
    b[:, 7] = 1
    assert cepstra.mcd(a, b) == pytest.approx(6.141851463713754)
    b[:, 0] = 100
    assert cepstra.mcd(a, b) == pytest.approx(6.141851463713754)
    assert math.isnan(cepstra.mcd(a[:0], b[:0]))
    with pytest.raises(UsageError, match="in step"):
        cepstra.mcd(a, b[:3])


@given(seeds, st.floats(0, 0.6), st.integers(1, 30))
def test_bending_back(seed: int, alpha: float, inputs: int) -> None:
    c = np.random.default_rng(seed).standard_normal(inputs)
    there = cepstra.all_pass_matrix(inputs, 400, alpha) @ c
    back = cepstra.all_pass_matrix(401, inputs - 1, -alpha) @ there
    assert np.abs(back - c).max() < 1e-6 * max(1, np.abs(c).max())
    assert np.allclose(cepstra.all_pass_matrix(inputs, inputs - 1, 0.0), np.eye(inputs))


def test_mel_cepstra_are_pysptk_s() -> None:
    found = cepstra.mel_cepstra(WORLD["power"], 24, 0.466)
    assert np.abs(found - WORLD["mc"]).max() < 1e-9
    bent = cepstra.all_pass_matrix(len(WORLD["cepstrum"]), 24, 0.466) @ WORLD["cepstrum"]
    assert np.abs(bent - WORLD["bent"]).max() < 1e-12
    a, b = WORLD["mc"][:5], WORLD["mc"][5:10]
    by_hand = [10 / math.log(10) * math.sqrt(2 * sum((x - y) ** 2 for x, y in zip(p[1:], q[1:]))) for p, q in zip(a, b)]
    assert cepstra.mcd(a, b) == pytest.approx(sum(by_hand) / 5)


def test_alpha_is_pysptk_s() -> None:
    assert [cepstra.alpha_for(int(rate)) for rate, _ in WORLD["alphas"]] == pytest.approx(
        [alpha for _, alpha in WORLD["alphas"]], abs=1.1e-3
    )
    assert cepstra.alpha_for(24000) == 0.466
    assert "c_1..c_24" in str(cepstra.definition(24000))
    assert "alpha 0.466" in str(cepstra.definition(24000))


# ---------------------------------------------------------------- alignment


def cheapest(a: np.ndarray, b: np.ndarray) -> float:
    """Total cost by the recursion itself."""
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            total[i + 1, j + 1] = np.linalg.norm(x - y) + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@given(seeds, st.integers(1, 14), st.integers(1, 14), st.integers(1, 3))
def test_alignment_is_the_cheapest_path(seed: int, t: int, s: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-3, 4, (t, d)).astype(float), rng.integers(-3, 4, (s, d)).astype(float)
    i, j = dtw.align(a, b)
    assert (i[0], j[0], i[-1], j[-1]) == (0, 0, t - 1, s - 1)
    steps = np.stack([np.diff(i), np.diff(j)], axis=1)
    assert all(tuple(step) in ((1, 1), (1, 0), (0, 1)) for step in steps)
    assert np.linalg.norm(a[i] - b[j], axis=1).sum() == pytest.approx(cheapest(a, b))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_a_slower_reading_costs_nothing(times: list[int]) -> None:
    a = np.random.default_rng(len(times)).standard_normal((len(times), 4))
    i, j = dtw.align(a, np.repeat(a, times, axis=0))
    assert np.array_equal(i, np.repeat(np.arange(len(times)), times))
    assert np.array_equal(j, np.arange(sum(times)))


def test_nothing_cannot_be_aligned() -> None:
    with pytest.raises(UsageError, match="aligned"):
        dtw.align(np.zeros((0, 3)), np.zeros((2, 3)))


# ---------------------------------------------------------------- F0


@given(seeds, st.integers(3, 300), st.floats(-2400, 2400), st.data())
def test_a_transposed_voice(seed: int, n: int, cents: float, data: st.DataObject) -> None:
    """A constant interval: RMSE in cents is the interval, in Hz what it makes of each frame, correlation 1."""
    rng = np.random.default_rng(seed)
    r = rng.uniform(70, 300, n)
    a = r * 2 ** (cents / 1200)
    unvoiced = rng.random(n) < 0.2
    flipped = np.zeros(n, bool)
    flipped[: data.draw(st.integers(0, n))] = True
    flipped = rng.permutation(flipped)
    assume((~unvoiced & ~flipped).sum() > 2)
    r[unvoiced] = 0
    a[unvoiced ^ flipped] = 0
    a[unvoiced & flipped] = 123.0
    found, both = pitch.compare(r, a), ~unvoiced & ~flipped
    assert found["f0_rmse_cents"] == pytest.approx(abs(cents), abs=1e-6)
    assert found["f0_rmse_hz"] == pytest.approx(
        np.sqrt(np.square((2 ** (cents / 1200) - 1) * r[both]).mean()), abs=1e-6
    )
    assert found["vuv_error"] == pytest.approx(100 * flipped.mean())
    assert found["f0_correlation"] == pytest.approx(1)


def test_pitch_without_common_frames() -> None:
    found = pitch.compare(np.array([100.0, 0.0]), np.array([0.0, 100.0]))
    assert found["vuv_error"] == 100
    assert all(math.isnan(found[k]) for k in ("f0_rmse_hz", "f0_rmse_cents", "f0_correlation"))
    assert math.isnan(pitch.compare(np.full(9, 100.0), np.full(9, 110.0))["f0_correlation"])  # nothing varies
    rising, falling = np.linspace(100, 200, 9), 20000 / np.linspace(100, 200, 9)
    assert pitch.compare(rising, falling)["f0_correlation"] == pytest.approx(-1)
    with pytest.raises(UsageError, match="in step"):
        pitch.compare(np.ones(3), np.ones(4))


def test_pyworld_finds_the_constructed_glide() -> None:
    """An octave up in a second, voiced for 0.8 s: pyworld's track (fixture) against the truth."""
    _, truth = glide()
    found = pitch.compare(truth, WORLD["f0"][: len(truth)])
    assert found["f0_rmse_cents"] < 12
    assert found["f0_rmse_hz"] < 1.2
    assert found["f0_correlation"] > 0.999
    assert found["vuv_error"] < 10  # harvest lets a voice begin early and end late


def test_our_call_of_pyworld_gives_the_fixture() -> None:
    pytest.importorskip("pyworld", reason="extra eval", exc_type=ImportError)
    from sopro_np.evaluate.world import analyse, compare_aligned

    wav, _ = glide()
    own = analyse(wav, RATE)
    assert np.allclose(own.f0, WORLD["f0"], atol=1e-6)
    assert np.allclose(own.cepstra[40:160:8], WORLD["mc"], atol=1e-6)
    same = compare_aligned(own, own)
    assert same["mcd"] == 0 and same["f0_rmse_hz"] == 0 and same["vuv_error"] == 0
    assert compare_aligned(own, analyse(0.5 * wav, RATE))["mcd"] < 0.05


# ---------------------------------------------------------------- words, failures, libraries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The “Quick” Brown-Fox!", "the quick brown fox"),
        ("Don't, it’s 'quoted'.", "don't it's quoted"),
        ("42 dogs", "forty two dogs"),
        ("on the 3rd, at 2.5", "on the third at two point five"),
        ("room 7b", "room seven b"),
        ("  ", ""),
    ],
)
def test_normalised_text(text: str, expected: str) -> None:
    assert spelling.comparable(text) == expected
    assert spelling.comparable(expected) == expected


@given(st.lists(st.sampled_from("abcde"), max_size=8), st.lists(st.sampled_from("abcde"), max_size=8))
def test_word_errors_are_the_edit_distance(a: list[str], b: list[str]) -> None:
    e = words.errors(" ".join(a), " ".join(b))
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(last + (x != y), row[j] + 1, row[j - 1] + 1)
    assert (e.words, e.word_errors) == (len(a), row[-1] if a else 0)


def test_repeats_and_missing_ends() -> None:
    assert words.repeats("one two three", "one two one two three") == 2
    assert words.repeats("a b", "a b a b a b") == 4
    assert words.repeats("no no no", "no no no") == 0
    assert words.repeats("no no", "no no no") == 1
    assert words.last_words_missing("a b c d", "a b") == 2
    assert words.last_words_missing("a b c d", "a b x d") == 0
    assert words.last_words_missing("a b c d", "") == 4
    assert words.last_words_missing("", "x") == 0
    assert words.words_beyond("a b c d", "a b c d and so on") == 3
    assert words.words_beyond("a b c d", "a b c d c d") == words.words_beyond("a b", "a b x") - 1 == 0
    assert words.words_beyond("no no", "no no yes") == 1


def test_failures() -> None:
    text, wav = "one two three four five six", np.full(2400, 0.1, np.float32)

    def kinds(
        ratio: float, heard: str | None = text, reason: str = "stop", sound: np.ndarray = wav, text: str = text
    ) -> list[str]:
        return failures.classify(text, sound, ratio * 2.7, 2.7, reason, heard)

    assert kinds(1) == kinds(1, heard=None) == []
    assert kinds(1, sound=wav[:0]) == kinds(1, sound=0 * wav) == ["silent"]
    assert kinds(1, reason="length") == kinds(1, reason="cut") == ["no_stop"]
    assert kinds(3) == kinds(3, heard=None) == ["runaway"]
    assert kinds(3, reason="length") == ["no_stop", "runaway"]
    assert kinds(0.4, heard=None) == ["truncation"]
    assert kinds(0.4) == []  # whoever hears every word misses none
    assert kinds(1.5, heard="one two three one two three four five six") == ["repeats"]
    assert kinds(1, heard="one two three one two three four five six") == []  # not longer: the recogniser's mistake
    assert kinds(1.3, heard="one two three four five six and so on") == ["runaway"]
    assert kinds(1, heard="one two three four five six and so on") == []
    assert kinds(0.7, heard="one two three") == ["truncation"]
    assert kinds(1, heard="one two three") == kinds(0.7, heard=None) == []
    assert kinds(1.9, "Hello hello", text="Hello.") == ["repeats"]
    assert kinds(1.9, "Hello", text="Hello.") == kinds(1.9, "hell oh", text="Hello.") == []
    many = [f"w{a}{b}" for a in "aeiou" for b in "bdfgkm"]
    thirty, end = " ".join(many), " ".join(many[-3:])
    assert kinds(0.9, " ".join(many[:-3]), text=thirty) == ["truncation"]
    assert kinds(1.1, f"{thirty} and so on", text=thirty) == ["runaway"]
    assert kinds(1.1, f"{thirty} {end}", text=thirty) == ["repeats"]
    assert kinds(1, f"{thirty} {end}", text=thirty) == kinds(1, " ".join(many[:-3]), text=thirty) == []


@given(
    st.lists(st.from_regex(r"[bdfgkmp][aeiou][bdfgkmp]o", fullmatch=True), min_size=1, max_size=30, unique=True),
    st.data(),
)
def test_accidents_are_named_by_aligned_words(said: list[str], data: st.DataObject) -> None:
    """From one word to thirty, spoken in proportion: words cut, said again, added; and mistakes of the recogniser."""
    wav, n = np.full(2400, 0.1, np.float32), len(said)
    few = min(3, -(-n // 3))

    def kinds(heard: list[str], ratio: float) -> list[str]:
        return failures.classify(" ".join(said), wav, ratio, 1.0, "stop", " ".join(heard))

    k = data.draw(st.integers(few, n))
    assert kinds(said[:-k], 1 - k / n) == ["truncation"]
    assert kinds(said[:-k], 1) == []  # as long as it should be: not heard, but said
    k = data.draw(st.integers(few, min(5, n)))
    place = data.draw(st.integers(k, n))
    again = said[:place] + said[place - k : place] + said[place:]
    assert "repeats" in kinds(again, 1 + k / n) and kinds(again, 1) == []
    others = ["xylo", "zulu", "yoyo", "wiwi", "vivo"][: data.draw(st.integers(few, 5))]
    assert kinds(said + others, 1 + len(others) / n) == ["runaway"]
    wrong = data.draw(st.integers(0, n - 1))
    assert kinds([*said[:wrong], "xylo", *said[wrong + 1 :]], 1.0) == []


@given(st.floats(0, 2), st.floats(0.01, 0.2), st.lists(st.integers(1, 300), min_size=2, max_size=60), seeds)
def test_pace_is_the_line_that_most_lie_on(start: float, slope: float, lengths: list[int], seed: int) -> None:
    """Exact without accidents; and a fifth of the lengths going wrong does not move it much."""
    assume(len(set(lengths)) > 1)
    texts = ["x" * n for n in lengths]
    seconds = np.array([start + slope * n for n in lengths])
    pace = failures.Pace.of(texts, seconds.tolist())
    assert [pace(t) for t in texts] == pytest.approx(seconds, rel=1e-6, abs=1e-6)
    many = ["x" * n for n in range(10, 110)]
    taken = np.array([start + slope * len(t) for t in many])
    wrong = np.random.default_rng(seed).choice(100, 20, replace=False)
    taken[wrong] *= 5
    assert failures.Pace.of(many, taken.tolist())(many[50]) == pytest.approx(start + slope * 60, rel=0.25)


def test_pace_of_little() -> None:
    assert failures.Pace.of(["ab", "ab", "ab"], [0.2, 2, 0.4])("ab") == pytest.approx(0.4)
    assert failures.Pace.of(["ab"], [0])("ab") > 0
    assert failures.Pace.of(["a", "ab"], [1, 0.5])("abc") == pytest.approx(3 * 0.625)  # shorter texts took longer


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingLibrary, match=r"F0 needs no_such_thing, which is not installed: pip install"):
        library("no_such_thing", "F0")
    monkeypatch.setitem(sys.modules, "broken_one", None)
    with pytest.raises(MissingLibrary, match="broken_one"):
        library("broken_one", "F0")


# ---------------------------------------------------------------- intervals


@given(seeds, st.integers(1, 40), st.integers(1, 4))
def test_interval_holds_the_mean(seed: int, texts: int, per_text: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(texts), per_text)
    values = rng.standard_normal(len(groups))
    found = bootstrap.interval(values, groups, draws=200)
    assert found.mean == pytest.approx(values.mean())
    means = values.reshape(texts, per_text).mean(axis=1)
    assert means.min() - 1e-12 <= found.low <= found.high <= means.max() + 1e-12
    assert found == bootstrap.interval(values, groups, draws=200)


def test_interval_of_known_spread() -> None:
    """Normal values of deviation 1: +-1.96 / sqrt(n); copies of a text add nothing to what is known."""
    values = np.random.default_rng(3).standard_normal(400)
    alone = bootstrap.interval(values, np.arange(400))
    assert alone.high - alone.low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    copied = bootstrap.interval(np.repeat(values, 5), np.repeat(np.arange(400), 5))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


def test_interval_of_a_ratio_and_of_nothing() -> None:
    found = bootstrap.interval(np.array([1.0, 0.0, np.nan]), np.array([0, 1, 2]), np.array([10.0, 30.0, 5.0]))
    assert (found.mean, found.count) == (1 / 40, 2)
    assert math.isnan(bootstrap.interval(np.array([np.nan]), np.array([0])).mean)
    with pytest.raises(UsageError, match="one each"):
        bootstrap.interval(np.ones(2), np.ones(3))
