"""Stage `sopro`: text and a reference's codes to codes, with the torch modules that tests/torch_oracle has anyway.

Utterances are run one by one (those modules take no batches and need no masks) and their gradients added up.
Losses: the AR part's next code and its end, one NAR stage drawn at random, and a nudge of the text attention towards
what flite says is spoken at each frame (guided attention, Tachibana et al. 2017, with the true alignment).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train.checkpoint import Checkpoints, learning_rate
from tools.train.codes import Coded
from tools.train.tokenizer import character_tokenizer, encode, save

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from torch_oracle import ConfigV15, SoproV15
from torch_oracle import save_checkpoint as save_sopro
from torch_oracle.base import Reference
from torch_oracle.blocks import SSMLiteBlock, run_stack

REACH = 3.0  # characters around the right one where attention costs nothing yet


def new_model(settings: dict[str, Any], vocabulary: int, seed: int, dropout: float) -> SoproV15:
    """A fresh model; gates open a little, since behind a closed one nothing is learnt."""
    torch.manual_seed(seed)
    model = SoproV15(ConfigV15.from_dict(settings), vocabulary)
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            nn.init.constant_(parameter, 0.7)
        elif name.endswith(("emb.weight", "stage_emb.weight")) or "head_id_emb" in name:
            nn.init.normal_(parameter, std=0.3)
    for module in model.modules():
        if isinstance(module, SSMLiteBlock):
            for part in (module.glu, module.ff):
                part.register_forward_hook(lambda m, _, y: F.dropout(y, dropout, m.training))
    return model


def condition(model: SoproV15, ids: Tensor, ref: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Text ids (L,) and reference codes (R, Q) -> conditioning (rows, D) and the text sequence (L, D)."""
    text, pool = model.text_enc(ids)
    seq = model.ref_enc_norm(run_stack(model.ref_enc_blocks, model.mix_reference(ref)))
    x = model.spk_film(model.frame_base(pool, rows), model.token2sv(ref), model.cfg.style_strength)
    return model.cond_norm(model.attend_reference(x, Reference(seq, model.reference_kv(seq)))), text


def ar_forward(model: SoproV15, x: Tensor, text: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The AR part's inputs (N, D) -> logits (N, V+1), and each text attention's weights (heads, N, L)."""
    weights = []
    kv = model.ar.text_kv(text)
    for i, block in enumerate(model.ar.blocks):
        x = block(x)
        if i in kv:
            attention = model.ar.x_attns[str(i)]
            query = attention.split(attention.q_proj(attention.nq(x)))
            weights.append((query @ kv[i][0].mT / query.shape[-1] ** 0.5).softmax(-1))
            values = (weights[-1] @ kv[i][1]).transpose(0, 1).flatten(1)
            x = x + attention.gate.tanh() * attention.out_proj(values)
    return model.ar.head(model.ar.norm(x)), weights


def corrupt(codes: Tensor, share: float, values: int, rng: np.random.Generator) -> Tensor:
    """Codes with that share of them replaced by random ones: at run time some are wrong, too."""
    hit = torch.from_numpy(rng.random(tuple(codes.shape)) < share)
    return torch.where(hit, torch.from_numpy(rng.integers(values, size=tuple(codes.shape))), codes)


class Trainer:
    """Model and optimiser; a step is a function of their state and of the step's number."""

    def __init__(self, cfg: SimpleNamespace, folder: Path, coded: Coded) -> None:
        self.cfg, self.coded, self.folder = cfg, coded, folder
        self.tokenizer = character_tokenizer()
        self.model = new_model(cfg.model, self.tokenizer.get_vocab_size(), cfg.seed, cfg.dropout)
        if cfg.init_from:
            self.model.load_state_dict(SoproV15.from_checkpoint(cfg.init_from).state_dict())
        self.parameters = list(self.model.parameters())
        decay = {"weight_decay": cfg.weight_decay, "betas": (0.9, 0.98), "fused": True}
        self.optimiser = torch.optim.AdamW(self.parameters, lr=cfg.learning_rate, **decay)
        self.checkpoints = Checkpoints(folder, self.model, self.optimiser, cfg.save_minutes)
        self.step = self.checkpoints.resume()

    def losses(self, number: int, stage: str, rng: np.random.Generator, corruption: float) -> dict[str, Tensor]:
        """One utterance's losses and accuracies."""
        model, values = self.model, self.model.cfg.codebook_size
        codes, ids = self.coded.codes(number), encode(self.tokenizer, self.coded.corpus.entries[number].text)
        ref = self.coded.reference(number, int(rng.integers(*self.cfg.reference_frames)), rng)
        cond, text = condition(model, torch.tensor(ids), ref, len(codes) + 1)
        target = torch.cat((codes[:, 0], torch.tensor([model.eos])))
        given = torch.cat((corrupt(codes[:, 0], corruption, values, rng), torch.tensor([0])))
        logits, attention = ar_forward(model, cond + model.cb_embed.shifted(given, 1), text)
        losses = {"ar": F.cross_entropy(logits, target, label_smoothing=self.cfg.label_smoothing)}
        places = self.coded.places(number)
        if places is not None:
            distance = (torch.arange(len(ids)) - places[:, None]) / REACH
            cost = 1 - torch.exp(-0.5 * distance.square())
            losses["guide"] = sum((w.mean(0)[:-1] * cost).sum(-1).mean() for w in attention) / len(attention)
        books, known = [0], corrupt(codes, corruption, values, rng)
        for name, stage_books in model.stage_books.items():
            if name == stage:
                prev = model.previous_codes(known[:, books], books)
                heads = model.nar_logits(name, cond[:-1], prev)
                pairs = list(zip(heads, codes[:, stage_books].T, strict=True))
                losses["nar"] = sum(F.cross_entropy(a, b) for a, b in pairs) / len(pairs)
                hits = [(a.argmax(-1) == b).float().mean() for a, b in pairs]
                losses["accuracy_" + name] = torch.stack(hits).mean().detach()
            books = books + stage_books
        losses["accuracy_A"] = (logits.argmax(-1) == target).float().mean().detach()
        return losses

    def train_step(self) -> dict[str, float]:
        """One update from cfg.batch utterances."""
        cfg, rng = self.cfg, np.random.default_rng([self.cfg.seed, self.step])
        torch.manual_seed(int(rng.integers(2**31)))  # dropout
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, cfg, cfg.steps)
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        stages, sums = list(self.model.stage_books), {}
        for number in rng.choice(self.coded.train, cfg.batch):
            losses = self.losses(int(number), str(rng.choice(stages)), rng, float(rng.uniform(*cfg.corruption)))
            (sum(cfg.weights[k] * v for k, v in losses.items() if k in cfg.weights) / cfg.batch).backward()
            for k, v in losses.items():
                sums.setdefault(k, []).append(v.item())
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        return {k: float(np.mean(v)) for k, v in sorted(sums.items())}

    @torch.no_grad()
    def validate(self, count: int = 48) -> dict[str, float]:
        """Mean losses over unseen utterances, every stage, uncorrupted."""
        self.model.eval()
        rng, sums = np.random.default_rng(self.cfg.seed), {}
        for number in self.coded.validation[:count]:
            if self.coded.speaker(number) in self.coded.speakers:
                for stage in self.model.stage_books:
                    for k, v in self.losses(number, stage, rng, 0.0).items():
                        sums.setdefault(k, []).append(v.item())
        return {k: float(np.mean(v)) for k, v in sorted(sums.items())}

    def export(self) -> None:
        """Write the checkpoint and the tokenizer in upstream's format."""
        save_sopro(self.model, self.folder / "model.safetensors")
        save(self.folder / "tokenizer")


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.sopro.steps; the best state by validation is work/sopro/model.safetensors."""
    torch.set_num_threads(cfg.sopro.threads)
    coded = Coded(work, cfg)
    trainer = Trainer(cfg.sopro, work / "sopro", coded)
    count = sum(p.numel() for p in trainer.parameters)
    print(f"sopro: {count / 1e6:.2f} M parameters, {len(coded.train)} utterances, at step {trainer.step}", flush=True)
    best_file = work / "sopro" / "best.json"
    began = time.time()
    while trainer.step < cfg.sopro.steps:
        losses = trainer.train_step()
        if trainer.step % 25 == 0:
            text = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
            print(f"sopro {trainer.step}/{cfg.sopro.steps} {(time.time() - began) / 25:.2f} s/step: {text}", flush=True)
            began = time.time()
        if trainer.step % cfg.sopro.validate_every == 0 or trainer.step == cfg.sopro.steps:
            found = trainer.validate()
            best = json.loads(best_file.read_text())["ar"] if best_file.exists() else float("inf")
            if found["ar"] < best:
                trainer.export()
                best_file.write_text(json.dumps({"step": trainer.step, **found}))
            text = " ".join(f"{k} {v:.3f}" for k, v in found.items())
            print(f"sopro {trainer.step} validation: {text}{' *' if found['ar'] < best else ''}", flush=True)
        if trainer.checkpoints.due() or trainer.step == cfg.sopro.steps:
            trainer.checkpoints.save(trainer.step)
