"""A stream says what the whole would have said: for any cut, any chunk size, any number of frames."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import ARCHS, Tiny, assert_close, by_each, normal
from hypothesis import given
from hypothesis import strategies as st
from tiny import fade_curve, faded

from sopro_np import ops
from sopro_np.batch import Batch
from sopro_np.job import SentenceJob
from sopro_np.layers import ConvBlock, DepthwiseConv, Linear, RMSNorm
from sopro_np.model.ar import ArState
from sopro_np.ops.quant import quantize
from sopro_np.options import Options
from sopro_np.session import AudioStream

pytestmark = by_each
CHUNKS = (1, 2, 3, 7, 16)
RECIPES = ("fp32", "int8")
MODELS = pytest.mark.parametrize(("arch", "recipe"), list(itertools.product(ARCHS, RECIPES)))
GREEDY, SAMPLED = {"top_k": 1}, {"seed": 7}
MODES = pytest.mark.parametrize("mode", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
TEXT = "Streams are cut wherever it pleases."
WAV = 2e-5  # NumPy: a product of one row and the same row among others may differ in the last bits
NEVER = {"stop_threshold": 2.0}  # v1 then ends at max_frames
CUTS = st.lists(st.integers(0, 40), max_size=8)

Models = Callable[..., Tiny]


def pieces(cuts: list[int], length: int) -> list[slice]:
    """Slices that make up 0..length, some of them empty."""
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def codes_of(m: Tiny, **options: Any) -> np.ndarray:
    return m.tts.codes(TEXT, m.voice, **options)


def random_codes(m: Tiny, frames: int, seed: int = 0) -> np.ndarray:
    config = m.tts.mimi.config
    return np.random.default_rng(seed).integers(0, config.code_values, (frames, config.codebooks))


# ---------------------------------------------------------------- one block


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
@given(
    cuts=CUTS, frames=st.integers(1, 40), width=st.integers(1, 40), kernel=st.integers(1, 7),
    dilation=st.integers(1, 4), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_causal_block(scheme: str, cuts: list[int], frames: int, width: int, kernel: int, dilation: int, seed: int):
    """ConvBlock in pieces, empty ones too: its tail is its whole state, and does not grow."""

    def linear(number: int, outputs: int, inputs: int, act: str | None = None) -> Linear:
        w = normal(seed + number, outputs, inputs, scale=inputs**-0.5)
        return Linear(ops.pack(quantize(w, scheme), act), normal(seed + number + 1, outputs), act)

    norm = RMSNorm(normal(seed, width))
    reach = (kernel - 1) * dilation
    conv = DepthwiseConv(normal(seed + 1, kernel, width), normal(seed + 2, width), dilation, reach, 0)
    block = ConvBlock(
        norm,
        linear(3, 2 * width, width, "glu"),
        conv,
        norm,
        linear(5, 4 * width, width, "gelu"),
        linear(7, width, 4 * width),
    )
    x, tail = normal(seed + 9, frames, width), block.new_state()
    rows = tail.rows
    whole = block(x, block.new_state())
    streamed = np.concatenate([block(x[part], tail) for part in pieces(cuts, frames)])
    # A last bit of a float product may flip one rounding to int8: a step of 1/127, not more.
    assert_close("block", streamed, whole, WAV if scheme == "fp32" else 1e-2)
    assert tail.rows is rows
    assert rows.shape == (reach, width)


# ---------------------------------------------------------------- the codec


@given(cuts=CUTS, frames=st.integers(0, 40), seed=st.integers(0, 2**31))
def test_decoder_in_pieces(tiny: Models, cuts: list[int], frames: int, seed: int):
    mimi, codes = tiny("v1").tts.mimi, random_codes(tiny("v1"), frames, seed)
    whole, state = mimi.decode(codes, mimi.new_state(frames)), mimi.new_state(frames)
    streamed = [mimi.decode(codes[part], state) for part in pieces(cuts, frames)]
    assert [len(p) for p in streamed] == [(part.stop - part.start) * mimi.config.hop for part in pieces(cuts, frames)]
    assert_close("wav", np.concatenate(streamed), whole, WAV)


@pytest.mark.parametrize("size", CHUNKS)
def test_decoder_in_chunks(tiny: Models, size: int):
    mimi, codes = tiny("v1").tts.mimi, random_codes(tiny("v1"), 45)
    state = mimi.new_state(45)
    streamed = [mimi.decode(codes[a : a + size], state) for a in range(0, 45, size)]
    assert_close("wav", np.concatenate(streamed), mimi.decode(codes, mimi.new_state(45)), WAV)


def test_later_codes_never_change_earlier_samples(tiny: Models):
    mimi, codes = tiny("v1").tts.mimi, random_codes(tiny("v1"), 24)
    hop, whole = mimi.config.hop, mimi.decode(codes, mimi.new_state(24))
    for frames in (1, 2, 9, 23):
        other = codes.copy()
        other[frames:] = random_codes(tiny("v1"), 24, seed=1)[frames:]
        changed = mimi.decode(other, mimi.new_state(24))
        assert_close("same codes", changed[: frames * hop], whole[: frames * hop], WAV)
        assert_close("no more codes", mimi.decode(codes[:frames], mimi.new_state(frames)), whole[: frames * hop], WAV)
        assert np.abs(changed[frames * hop :] - whole[frames * hop :]).max() > 100 * WAV


def test_decoder_state_stays_as_large_as_it_was(tiny: Models):
    """Conv tails keep their shapes; keys and values fill the memory reserved, position by position."""
    m = tiny("v1")
    mimi, state = m.tts.mimi, m.tts.mimi.new_state(30)
    shapes = None
    for frame, row in enumerate(random_codes(m, 30)):
        mimi.decode(row[None], state)
        tails = [state.upsample, *(tail for layer in state.seanet for tail in layer)]
        shapes = shapes or [tail.rows.shape for tail in tails]
        assert [tail.rows.shape for tail in tails] == shapes
        assert state.position == (frame + 1) * mimi.config.frame_stride
        assert all(kv.keys[: state.position].any(axis=1).all() for kv in state.transformer)
        assert not any(kv.keys[state.position :].any() for kv in state.transformer)
        assert all(tail.rows.base is None for tail in tails), "a view would keep a whole chunk alive"


# ---------------------------------------------------------------- codes


@MODES
@MODELS
def test_codes_do_not_depend_on_the_chunk_size(tiny: Models, arch: str, recipe: str, mode: dict[str, Any]):
    """Causal: equal to offline. With a look ahead: equal for every chunk size, at each look ahead."""
    m = tiny(arch, recipe)
    for lookahead in (None, 0, 3) if arch == "v1.5" else (None,):
        options = {"max_frames": 39, "lookahead": lookahead, **NEVER, **mode}
        offline = codes_of(m, chunk_frames=400, **options)
        assert len(offline) >= (39 if arch == "v1" else 1)
        for size in CHUNKS:
            assert np.array_equal(codes_of(m, chunk_frames=size, **options), offline), (lookahead, size)


@pytest.mark.parametrize("recipe", RECIPES)
@given(size=st.integers(1, 60), frames=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_any_chunk_size_of_the_causal_model(tiny: Models, recipe: str, size: int, frames: int, seed: int):
    m = tiny("v1", recipe)
    options = {"max_frames": frames, "seed": seed, **NEVER}
    whole = codes_of(m, chunk_frames=frames, **options)
    assert len(whole) == frames
    assert np.array_equal(codes_of(m, chunk_frames=size, **options), whole)


def longest(m: Tiny, wanted: int) -> dict[str, Any]:
    """Options under which the model speaks that many frames, whatever its end code would have."""
    return {"max_frames": wanted - (m.arch == "v1.5"), "min_gen_frames": 10**6, **NEVER}


@MODES
@pytest.mark.parametrize("recipe", RECIPES)
def test_enough_look_ahead_is_the_whole_utterance(tiny: Models, recipe: str, mode: dict[str, Any]):
    """As many frames as there are, or as far as the chained stages see: both are exact. Fewer are not."""
    m = tiny("v1.5", recipe)
    options = {**longest(m, 60), **mode}
    offline = codes_of(m, lookahead=None, **options)
    assert len(offline) == 60
    trunk = m.tts.model.nar.stages[0].trunk
    sight = len(m.tts.model.nar.stages) * sum(block.conv.future for block in trunk.blocks)
    assert 0 < sight < 56
    for lookahead in (sight, 56, 60, 1000):
        assert np.array_equal(codes_of(m, lookahead=lookahead, **options), offline), lookahead
    blind = codes_of(m, lookahead=0, **options)
    assert np.array_equal(blind[:, 0], offline[:, 0])
    assert not np.array_equal(blind, offline)


@MODELS
def test_what_was_given_out_stays(tiny: Models, arch: str, recipe: str):
    """A shorter utterance is the beginning of a longer one, but for frames that lacked their look ahead."""
    m, lookahead = tiny(arch, recipe), 3 if arch == "v1.5" else 0
    whole = codes_of(m, lookahead=lookahead, **longest(m, 30), **SAMPLED)
    for frames in (2, 3, 11, 29):
        shorter = codes_of(m, lookahead=lookahead, **longest(m, frames), **SAMPLED)
        assert len(shorter) == frames
        final = max(0, frames - lookahead) // 4 * 4 if lookahead else frames
        assert np.array_equal(shorter[:, 0], whole[:frames, 0])
        assert np.array_equal(shorter[:final], whole[:final])


def test_a_step_costs_the_same_early_and_late(tiny: Models, monkeypatch: pytest.MonkeyPatch):
    """After the look-back's warm-up, every AR step multiplies the same rows and keeps the same state."""
    for arch in ARCHS:
        m = tiny(arch)
        model, rows = m.tts.model, []
        table = dict(ops.TABLES[m.tts.ops])

        def counting(x, *rest, linear=table["linear"], rows=rows, **named):
            rows.append(len(x))
            return linear(x, *rest, **named)

        state = model.ar.new_state(m.voice.codes[:0, 0])
        utterance = model.start(m.tts.tokenizer.encode(TEXT), m.voice)
        monkeypatch.setitem(ops.TABLES[m.tts.ops], "linear", counting)
        monkeypatch.setitem(ops.TABLES[m.tts.ops], "replay", ops.TABLES["numpy"]["replay"])  # nothing is replayed
        shapes = [tail.rows.shape for tail in state.tails]
        kept, work = [], []
        for t in range(40):
            rows.clear()
            model.ar.step(normal(t, model.config.width), state, utterance)
            state.push(t)
            work.append(sum(rows))
            kept.append(len(state.rows))
            assert [tail.rows.shape for tail in state.tails] == shapes
        monkeypatch.undo()
        history = model.config.ar_history
        assert len(set(work[history:])) == 1, arch
        assert set(kept[history:]) == {history}, arch
        assert set(work[history:]) <= {work[0]}, "a late step costs what the first one did"


# ---------------------------------------------------------------- audio


@MODES
@MODELS
def test_streamed_audio_is_the_synthesised_audio(tiny: Models, arch: str, recipe: str, mode: dict[str, Any]):
    """stream == synthesize at the same look ahead; other chunk sizes agree but for last bits of float32."""
    m = tiny(arch, recipe)
    options = {**longest(m, 21), **mode, **({"lookahead": 8} if arch == "v1.5" else {})}
    whole = m.tts.synthesize(TEXT, m.voice, chunk_frames=21, **options)
    assert whole.shape == (21 * m.tts.mimi.config.hop,)
    decoded = faded(m.tts.decode(codes_of(m, **options)))
    # int8 activations: a last bit may flip a rounding, which shows for a moment (STREAMING.md) and nowhere else
    tolerance, energy = (WAV, WAV) if recipe == "fp32" else (1e-2, 1e-3)
    assert_close("decoded at once", whole, decoded, tolerance)
    for size in CHUNKS:
        chunks = list(m.tts.stream(TEXT, m.voice, chunk_frames=size, **options))
        given = np.cumsum([len(chunk) for chunk in chunks[:-1]])  # all but the end, which is held back for its fade
        held = len(fade_curve(m.tts.sample_rate))
        assert {int(n + held) % (size * m.tts.mimi.config.hop) for n in given[:-1]} <= {0}
        streamed = np.concatenate(chunks)
        assert_close(f"chunks of {size}", streamed, whole, tolerance)
        assert np.sqrt(np.mean((streamed - whole) ** 2)) <= energy
        again = m.tts.synthesize(TEXT, m.voice, chunk_frames=size, **options)
        assert streamed.tobytes() == again.tobytes()


@MODELS
def test_seeds(tiny: Models, arch: str, recipe: str):
    """Equal seeds, equal bytes, also of interleaved streams; other seeds, other codes."""
    m = tiny(arch, recipe)
    options = {**longest(m, 12), "chunk_frames": 3}
    one, same, other = (m.tts.stream(TEXT, m.voice, seed=seed, **options) for seed in (1, 1, 2))
    a, b, c = (b"".join(chunk.tobytes() for chunk in s) for s in zip(*zip(one, same, other, strict=True)))
    assert a == b
    assert a != c
    first = {codes_of(m, seed=seed, **options)[:, 0].tobytes() for seed in range(6)}
    assert len(first) == 6
    unseeded = {codes_of(m, **options)[:, 0].tobytes() for _ in range(3)}
    assert len(unseeded) == 3


@pytest.mark.parametrize("arch", ARCHS)
def test_why_it_ended(tiny: Models, arch: str):
    """`length` at max_frames; `stop` where the model says so: after the patience, or before the end code."""
    m = tiny(arch)
    ended = {"stop_threshold": 0.0, "stop_patience": 2, "min_gen_frames": 6} if arch == "v1" else {}
    for given_options, frames, reason in ((longest(m, 9), 9, "length"), (ended, 7, "stop")):
        options = Options(chunk_frames=4, **given_options)
        script = itertools.chain(range(7), itertools.repeat(8 if frames == 9 else m.tts.model.config.ar_codes - 1))
        session = m.tts.session(TEXT, m.voice, options, sampler=lambda logits, script=script: next(script))
        batch, job = Batch(m.tts.runtime), SentenceJob(session, AudioStream(m.tts.mimi, options))
        batch.add(job)
        while len(batch):
            batch.step()
        assert (job.speech.finish_reason, len(job.speech.wav)) == (reason, frames * m.tts.mimi.config.hop)
        assert job.speech.frames == frames


@pytest.mark.parametrize("arch", ARCHS)
def test_states_can_be_copied(tiny: Models, arch: str):
    """In the middle of everything: the copy goes on as the original does, and neither disturbs the other."""
    m = tiny(arch)
    model, mimi, runtime = m.tts.model, m.tts.mimi, m.tts.runtime
    utterance = model.start(m.tts.tokenizer.encode(TEXT), m.voice)
    rows = normal(1, 12, model.config.width)
    codes = random_codes(m, 12)

    def speak(state: ArState, first: int, last: int) -> list[np.ndarray]:
        logits = []
        with runtime(one_row=True):
            for t in range(first, last):
                logits.append(model.ar.step(rows[t], state, utterance))
                state.push(int(codes[t, 0]))
        return logits

    def both(state: Any, go_on: Callable[[Any], Any]) -> None:
        copied = copy.deepcopy(state)
        expected = go_on(state)
        assert all(np.array_equal(a, b) for a, b in zip(expected, go_on(copied), strict=True))

    ar, nar, decoder = model.ar.new_state(utterance.prefix), model.nar.new_state(), mimi.new_state(12)
    for _ in range(2):  # the second time what was captured the first time is replayed
        speak(ar, 0, 3)
        both(ar, lambda state: speak(state, 3, 12))
        ar = model.ar.new_state(utterance.prefix)
    with runtime():
        for t in (0, 2, 4):
            model.nar(rows[t : t + 2], codes[t : t + 2, 0], nar)
            mimi.decode(codes[t : t + 2], decoder)
        both(nar, lambda state: [model.nar(rows[t : t + 2], codes[t : t + 2, 0], state) for t in (6, 8, 10)])
        both(decoder, lambda state: [mimi.decode(codes[t : t + 2], state) for t in (6, 8, 10)])
