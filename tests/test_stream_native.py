"""On native kernels a stream is the whole bit for bit: any cut, any chunk size, any number of threads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny as models
from conftest import on_kernels
from hypothesis import given
from hypothesis import strategies as st
from test_stream import CUTS, MODELS, MODES, RECIPES, TEXT, Models, longest, pieces

from sopro_np import ops
from sopro_np.engine import Sopro, open_model
from sopro_np.ops.native.threads import on_threads

pytestmark = on_kernels


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """So that even tiny products are shared out among threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sopro_np.ops.native.arguments.PIECE", 300)
        yield


@functools.cache
def natively(arch: str, recipe: str, threads: int = 1) -> Sopro:
    """A tiny model whose weights are packed for the kernels, whatever the other tests compute with."""
    return open_model(models.model_file(arch, recipe, seed=5), threads, "native")


@pytest.mark.parametrize("recipe", RECIPES)
@given(cuts=CUTS, frames=st.integers(0, 40), seed=st.integers(0, 2**31))
def test_native_pieces_are_the_same_bits(recipe: str, cuts: list[int], frames: int, seed: int):
    """Not nearly the whole, but the whole: chunks of 1, 3, 7 frames, any others, on one thread or three."""
    mimi, hop = natively("v1", recipe).mimi, natively("v1", recipe).mimi.config.hop
    codes = np.random.default_rng(seed).integers(0, mimi.config.code_values, (frames, mimi.config.codebooks))
    with ops.using("native"):
        with on_threads(1):
            whole = mimi.decode(codes, mimi.new_state(frames))
        assert whole.shape == (frames * hop,)
        assert not frames or whole.any()
        even = [[*range(size, frames, size)] for size in (1, 3, 7)]
        for threads, edges in itertools.product((1, 3), [*even, cuts]):
            state = mimi.new_state(frames)
            with on_threads(threads):
                streamed = [mimi.decode(codes[part], state) for part in pieces(edges, frames)]
            assert np.concatenate(streamed).tobytes() == whole.tobytes(), (threads, edges)


@MODES
@MODELS
def test_native_stream_is_bit_for_bit_the_whole(tiny: Models, arch: str, recipe: str, mode: dict[str, Any]):
    """Every chunk size, one thread or two: the waveform of `synthesize`, and of all codes decoded at once."""
    m, tts = tiny(arch, recipe), natively(arch, recipe)
    options = {**longest(m, 21), **mode, **({"lookahead": 8} if arch == "v1.5" else {})}
    codes = tts.codes(TEXT, m.voice, **options)
    whole = tts.synthesize(TEXT, m.voice, **options)
    assert whole.any()
    assert models.faded(tts.decode(codes)).tobytes() == whole.tobytes()
    for size in (1, 3, 7, 400):
        for model in (tts, natively(arch, recipe, 2)):
            chunks = model.stream(TEXT, m.voice, chunk_frames=size, **options)
            assert np.concatenate(list(chunks)).tobytes() == whole.tobytes(), (size, model.threads)


@MODELS
def test_native_layers_in_pieces_of_any_size(monkeypatch, arch: str, recipe: str):
    """The decoder's late layers take their rows in pieces: not a bit depends on how many go into one."""
    tts = natively(arch, recipe)
    config = tts.mimi.config
    codes = np.random.default_rng(3).integers(0, config.code_values, (9, config.codebooks))
    whole = tts.decode(codes)
    for size in (1, 100, 1000, 3001, 20_000):
        monkeypatch.setattr("sopro_np.mimi.seanet.PIECE_BYTES", size)
        assert tts.decode(codes).tobytes() == whole.tobytes(), size
