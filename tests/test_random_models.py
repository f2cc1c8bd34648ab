"""Random models of random sizes, written as upstream would, converted, compared layer by layer with torch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import assert_close, by_each
from hypothesis import Phase, assume, event, given, note, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch import Tensor, nn  # noqa: E402

from sopro_np.convert.convert import convert  # noqa: E402
from sopro_np.convert.recipe import load_recipe  # noqa: E402
from sopro_np.engine import Sopro, open_model  # noqa: E402
from sopro_np.mimi.codec import Mimi  # noqa: E402
from tools.oracle import ConfigV1, ConfigV15, NucleusSampler, SoproV1, SoproV15, randomise  # noqa: E402
from tools.oracle import save_checkpoint as save_oracle  # noqa: E402
from tools.oracle import trace as oracle  # noqa: E402
from tools.tracing.mimi import trace_mimi  # noqa: E402
from tools.tracing.sopro import trace_sopro  # noqa: E402

pytestmark = by_each
TIE = 1e-3  # two logits or distances closer than this may change places; float32 errors are far smaller
NO_SHRINKING = settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])  # it would take minutes
SEEDS = st.integers(0, 2**31)
STRENGTHS = st.sampled_from([0.0, 0.3, 1.0, 1.2, 2.0])


def converted(folder: Path, **parts: Path) -> Sopro:
    convert(folder / "converted.safetensors", load_recipe("fp32"), **parts)
    return open_model(folder / "converted.safetensors")


# ---------------------------------------------------------------- the acoustic model


@st.composite
def configs(draw, arch: str):
    """Any sensible sizes; v1.5's stages may leave codebooks out, be empty, or reach beyond the last."""
    books = draw(st.integers(5, 9))
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    bounds = sorted(draw(st.lists(st.integers(2, books - 1), min_size=3, max_size=3, unique=True)))
    edges = [1, *bounds, books]  # stage s takes the codebooks edges[s] .. edges[s + 1] - 1
    stages = {f"stage_{s}": (a + 1, b) for s, a, b in zip("BCDE", edges[:-1], edges[1:], strict=True)}
    if arch == "v1.5":
        for name, (low, high) in stages.items():
            low += draw(st.integers(0, 1))  # a codebook that no stage covers, or an empty stage
            stages[name] = (low, high + (2 if high == books else 0))
        stages["stage_B"] = (draw(st.sampled_from([1, stages["stage_B"][0]])), stages["stage_B"][1])
    common = dict(
        num_codebooks=books, codebook_size=draw(st.integers(2, 24)),
        d_model=draw(st.sampled_from([12, 24, 36])), pos_emb_max=draw(st.integers(20, 40)), max_text_len=16,
        n_layers_ar=draw(st.integers(1, 4)), ar_kernel=draw(st.integers(1, 6)),
        ar_dilation_cycle=draw(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)),
        ar_text_attn_freq=draw(st.integers(1, 5)), n_layers_nar=draw(st.integers(1, 3)),
        nar_head_dim=draw(st.integers(1, 20)), sv_student_dim=draw(st.integers(1, 20)),
        style_strength=draw(STRENGTHS), n_layers_text=draw(st.integers(0, 3)), **stages,
    )  # fmt: skip
    if arch == "v1":
        return ConfigV1(
            **common, use_stop_head=draw(st.booleans()), ar_lookback=draw(st.integers(0, 6)),
            ref_attn_heads=heads, preprompt_sec_max=draw(st.sampled_from([0.0, 0.12, 0.2, 0.52, 4.0])),
        )  # fmt: skip
    return ConfigV15(
        **common, nar_kernel_size=draw(st.integers(1, 6)),
        nar_dilation_cycle=draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)),
        ref_enc_layers=draw(st.integers(0, 2)), ref_xattn_heads=heads,
        ref_xattn_layers=draw(st.integers(1, 3)), ref_xattn_gmax=draw(st.sampled_from([0.1, 0.35, 1.0])),
    )  # fmt: skip


@st.composite
def inputs(draw, cfg, vocabulary: int):
    """Text and reference of any length, forced tokens (v1.5: with end codes), numbers of NAR frames."""
    rng = np.random.default_rng(draw(SEEDS))
    frames = draw(st.integers(2, 14))
    rows, values = frames + isinstance(cfg, ConfigV15), cfg.codebook_size

    def tokens(*shape: int, below: int = values) -> Tensor:
        return torch.from_numpy(rng.integers(0, below, shape))

    lengths = draw(st.sets(st.integers(1, frames), min_size=1, max_size=2))
    main = draw(STRENGTHS)
    return oracle.TraceInputs(
        text_ids=tokens(draw(st.integers(1, 12)), below=vocabulary),
        ref_tokens=tokens(draw(st.integers(1, 12)), cfg.num_codebooks),
        forced=tokens(rows, below=values + isinstance(cfg, ConfigV15)),
        rvq1={length: tokens(length) for length in lengths},
        styles=(0.0, main) if main else (0.0,), main_style=main, max_frames=frames,
        generate_frames=(draw(st.integers(1, frames)),),
    )  # fmt: skip


class Gaps:
    """The smallest difference between the best and the second best, over every choice that torch made."""

    def __init__(self, model: nn.Module) -> None:
        self.smallest = np.inf
        parts = dict(model.named_modules())
        heads = [m for name, m in parts.items() if name == "ar.head" or ".heads." in name]
        for module in heads:
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda _module, _given, logits: self.see(logits))

    def see(self, logits: Tensor) -> None:
        best = logits.topk(2, dim=-1).values
        self.smallest = min(self.smallest, float((best[..., 0] - best[..., 1]).min()))

    def penalised(self, logits: Tensor, history: list[int]) -> int:
        """Upstream's sampler at top_p = 0, with the gap after the penalty."""
        p = NucleusSampler(temperature=1.0, top_p=None, top_k=0).probabilities(logits, history)
        self.see(p.clamp_min(1e-30).log())
        return int(p.argmax())


def torch_trace(model: nn.Module, given_inputs: oracle.TraceInputs) -> tuple[dict[str, np.ndarray], float]:
    """All stages under golden's names, and the smallest gap among all choices."""
    gaps = Gaps(model)
    with mock.patch.object(oracle, "PENALISED_ARGMAX", gaps.penalised):
        tensors = oracle.trace(model, given_inputs)
    tensors |= {f"nar.T{t}.rvq1": first for t, first in given_inputs.rvq1.items()}
    tensors |= {"text_ids": given_inputs.text_ids, "ref_tokens": given_inputs.ref_tokens}
    tensors["ar.forced"] = given_inputs.forced
    return {f"in0.{n}": t.numpy() for n, t in tensors.items()}, gaps.smallest


@pytest.mark.parametrize("arch", ["v1", "v1.5"])
@NO_SHRINKING
@given(data=st.data())
def test_sopro(arch: str, data: st.DataObject):
    cfg = data.draw(configs(arch))
    vocabulary = data.draw(st.integers(1, 30))
    given_inputs = data.draw(inputs(cfg, vocabulary))
    model = (SoproV1 if arch == "v1" else SoproV15)(cfg, vocabulary).eval()
    assume(arch == "v1" or model.stage_books)
    randomise(model, torch.Generator().manual_seed(data.draw(SEEDS)))
    expected, gap = torch_trace(model, given_inputs)
    note(f"smallest gap {gap:.2g}")
    assume(gap > TIE / 10)  # else one flipped code changes all that follows; floats are compared up to there
    covered = sum(map(len, model.stage_books.values()))
    event(f"codebooks that no stage covers: {cfg.num_codebooks - 1 - covered}")
    table = model.frame_positions.table
    expected |= {"pe.rows": np.arange(len(table)), "pe.values": table.numpy()}
    case = {
        "main_style_strength": given_inputs.main_style, "style_strengths": given_inputs.styles,
        "max_frames": given_inputs.max_frames, "stage_indices": model.stage_books,
        "rf_ar": 1 + sum(block.dw.history for block in model.ar.blocks),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_oracle(model, folder / "model.safetensors")
        tts = converted(folder, sopro=folder / "model.safetensors")
        ours = trace_sopro(tts, case, expected)
    assert set(expected) <= set(ours)
    for name, value in expected.items():
        assert_close(name, ours[name], value)
    assert tts.model.config.reference_seconds == 12.0
    assert tts.model.config.style_strength == cfg.style_strength


# ---------------------------------------------------------------- the codec


@st.composite
def mimi_configs(draw):
    """Any sizes transformers accepts and the converter claims to support."""
    heads, shared = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (3, 1), (3, 3)]))
    head_dim = draw(st.sampled_from([2, 4, 6]))
    hidden = draw(st.sampled_from([heads * head_dim, 12, 24]))
    ratios = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    quantizers = draw(st.integers(2, 6))
    code_width = draw(st.sampled_from([hidden, 5, 8]))  # equal to hidden: no projections
    return transformers.MimiConfig(
        sampling_rate=int(np.prod(ratios)) * 2 * draw(st.integers(5, 50)), hidden_size=hidden,
        num_filters=draw(st.sampled_from([2, 4])), num_residual_layers=draw(st.integers(1, 2)),
        upsampling_ratios=ratios, kernel_size=draw(st.integers(1, 7)),
        last_kernel_size=draw(st.integers(1, 4)), residual_kernel_size=draw(st.integers(1, 4)),
        dilation_growth_rate=draw(st.integers(1, 3)), compress=draw(st.sampled_from([1, 2])),
        codebook_size=draw(st.sampled_from([2, 8, 32])), codebook_dim=code_width,
        vector_quantization_hidden_dimension=code_width, num_quantizers=quantizers,
        num_semantic_quantizers=draw(st.integers(1, min(2, quantizers - 1))),
        use_conv_shortcut=draw(st.booleans()), upsample_groups=hidden,
        num_hidden_layers=draw(st.integers(1, 2)), intermediate_size=draw(st.integers(1, 24)),
        num_attention_heads=heads, num_key_value_heads=shared, head_dim=head_dim,
        norm_eps=draw(st.sampled_from([1e-5, 1e-3])), rope_theta=draw(st.sampled_from([100.0, 10000.0])),
        sliding_window=draw(st.integers(1, 300)),
    )  # fmt: skip


@torch.no_grad()
def randomise_mimi(mimi: nn.Module, generator: torch.Generator) -> None:
    """Nothing zero, nothing one; a few codebook rows were never used."""
    for name, tensor in mimi.state_dict(keep_vars=True).items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("initialized"):
            continue
        if name.endswith("cluster_usage"):
            tensor.copy_(0.5 + noise.abs())
            tensor[:: 1 + len(tensor) // 2] = 0
        elif name.endswith("embed_sum"):
            tensor.copy_(noise)
            tensor[:: 1 + len(tensor) // 2] *= 1e-5
        elif tensor.ndim > 1:
            fan = tensor[0].numel() if "decoder.layers" not in name else tensor.shape[0] * 2
            tensor.copy_(noise * 1.2 * fan**-0.5)
        elif name.endswith("bias"):
            tensor.copy_(0.1 * noise)
        elif name.endswith("scale"):
            tensor.copy_(0.2 + 0.1 * noise)
        else:
            tensor.copy_(1 + 0.15 * noise)


@torch.inference_mode()
def torch_mimi(mimi: nn.Module, wav: Tensor, codes: Tensor) -> dict[str, np.ndarray]:
    """Outputs of every module by golden's names. wav (n,), codes (Q, T)."""
    seen: dict[str, Tensor] = {}
    encoder, decoder = f"enc.L{len(wav)}", f"dec.T{codes.shape[1]}"
    modules = {f"{encoder}.seanet": mimi.encoder, f"{decoder}.upsample": mimi.upsample}
    modules |= {f"{encoder}.transformer": mimi.encoder_transformer, f"{encoder}.downsample": mimi.downsample}
    modules[f"{decoder}.transformer"] = mimi.decoder_transformer
    modules[f"{decoder}.transformer.after_layer0"] = mimi.decoder_transformer.layers[0]
    for side, net in ((encoder, mimi.encoder), (decoder, mimi.decoder)):
        for i, layer in enumerate(net.layers):
            if not isinstance(layer, nn.ELU):
                modules[f"{side}.seanet.layer{i}"] = layer

    def keep(name: str):
        def hook(_module, _given, output) -> None:
            tensor = (output if isinstance(output, Tensor) else output[0])[0]
            seen[name] = tensor.T if "transformer" in name else tensor

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    seen[f"{encoder}.wav"], seen[f"{decoder}.codes"] = wav, codes
    seen[f"{encoder}.codes"] = mimi.encode(wav[None, None]).audio_codes[0]
    seen[f"{decoder}.quantizer"] = mimi.quantizer.decode(codes[None])[0]
    seen[f"{decoder}.wav"] = mimi.decode(codes[None]).audio_values[0, 0]
    for handle in handles:
        handle.remove()
    for k in range(1, len(codes)):
        seen[f"{decoder}.wav_first{k}q"] = mimi.decode(codes[None, :k]).audio_values[0, 0]
    return {name: tensor.numpy() for name, tensor in seen.items()}


def sure(mimi: Mimi, embedding: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Which codes (Q, T) must agree: no near tie at them or at an earlier one of the same quantizer."""
    known, row = np.ones(codes.shape, bool), 0
    for quantizer in (mimi.quantizer.semantic, mimi.quantizer.acoustic):
        rest, so_far = quantizer.project(embedding.T).astype(np.float64), np.ones(codes.shape[1], bool)
        for table in quantizer.codebooks:
            rows = table.dequantize().astype(np.float64)
            closest = np.sort(np.linalg.norm(rest[:, None] - rows, axis=2), axis=1)
            so_far &= closest[:, 1] - closest[:, 0] > TIE
            known[row] = so_far
            rest, row = rest - rows[codes[row]], row + 1
    return known


@NO_SHRINKING
@given(config=mimi_configs(), seed=SEEDS, samples=st.integers(1, 700), frames=st.integers(1, 20))
def test_mimi(config, seed: int, samples: int, frames: int):
    torch.manual_seed(0)
    mimi = transformers.MimiModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    randomise_mimi(mimi, generator)
    codes = torch.randint(config.codebook_size, (config.num_quantizers, frames), generator=generator)
    expected = torch_mimi(mimi, torch.randn(samples, generator=generator), codes)
    with tempfile.TemporaryDirectory() as scratch:
        mimi.save_pretrained(scratch)
        engine = converted(Path(scratch), mimi=Path(scratch)).mimi
        ours = trace_mimi(engine, expected)
    assert set(expected) <= set(ours)
    encoded = f"enc.L{samples}.codes"
    must = sure(engine, expected[f"enc.L{samples}.downsample"], expected[encoded])
    event(f"codes near a tie: {(~must).any()}")
    assert_close(encoded, ours[encoded][must], expected[encoded][must])
    for name in expected.keys() - {encoded}:
        assert_close(name, ours[name], expected[name])
