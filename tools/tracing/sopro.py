"""Every stage of the acoustic model on the inputs of a golden case, either generation."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from sopro_np.engine import Sopro
from sopro_np.layers import CrossKV, table_rows
from sopro_np.model.ar import ArState
from sopro_np.model.build import Model
from sopro_np.model.stop import StopHead
from sopro_np.ops.sampling import distribution
from sopro_np.options import DEFAULTS, Options
from sopro_np.sampler import PENALTY, PENALTY_WINDOW
from sopro_np.session import Session

Tensors = dict[str, np.ndarray]
Chooser = Callable[[np.ndarray, list[int]], int]


def raw_argmax(logits: np.ndarray, history: list[int]) -> int:
    return int(logits.argmax())


def penalised_argmax(logits: np.ndarray, history: list[int]) -> int:
    """What sampling with top_p = 0 chooses."""
    return int(
        distribution(logits, history[-PENALTY_WINDOW:], DEFAULTS.temperature, DEFAULTS.top_k, 0.0, PENALTY).argmax()
    )


class SoproTrace:
    """Runs one input set `in<i>` of a case; `names` are those that the golden file holds."""

    def __init__(self, tts: Sopro, case: dict[str, Any], given: Tensors, names: Collection[str]) -> None:
        self.tts, self.model, self.case, self.given = tts, tts.model, case, given
        self.names = names
        self.out: Tensors = {}
        self.style = float(case["main_style_strength"])
        stop = self.model.stop.new_state()
        self.steps = stop.steps(case["max_frames"])
        self.letters = [letter for letter, books in case["stage_indices"].items() if books]

    def run(self) -> Tensors:
        """All outputs of this input set, without the `in<i>.` prefix."""
        self._text()
        self._reference()
        self._conditioning()
        rows = self.out[f"cond.s{self.style}.out"]
        self._teacher_forced(rows)
        self._greedy(rows)
        for t in sorted({int(m[1]) for n in self.names if (m := re.match(r"nar\.T(\d+)\.rvq1$", n))}):
            self._nar(rows, t)
        for m in sorted({int(k[1]) for n in self.names if (k := re.match(r"generate\.argmax\.max(\d+)\.", n))}):
            self._generate(m)
        return self.out

    # ------------------------------------------------------------ stages

    def _text(self) -> None:
        ids = self.given["text_ids"]
        self.out["text_ids"] = ids
        self.out["text.embed_plus_pos"] = self.model.text.embed(ids)
        self.out["text.seq"], self.out["text.pool"] = self.model.text(ids)
        for layer, kv in self.model.ar.text_kv(self.out["text.seq"]).items():
            self._heads(f"ar.text_kv{layer}", kv, self.model.config.text_heads)

    def _reference(self) -> None:
        codes = self.given["ref_tokens"]
        speaker, encoder = self.model.speaker, self.model.reference
        self.out["ref_tokens"] = codes
        self.out["sv.mixed"] = speaker.mix(codes)
        self.out["sv.enc"] = speaker.encode(self.out["sv.mixed"])
        self.out["sv.pooled"] = speaker.pool(self.out["sv.enc"])
        self.out["sv.out"] = speaker.project(self.out["sv.pooled"])
        self.out["ref.mixed"] = encoder.mix(codes)
        self.out["ref.seq"] = encoder(codes)
        self.voice = self.tts.voice_from_codes(codes)
        self.utterance = self.model.start(self.given["text_ids"], self.voice, self.style)
        for layer, kv in enumerate(self.voice.reference_kv):
            self._heads(f"ref.kv{layer}", kv, self.model.config.reference_heads)

    def _heads(self, name: str, kv: CrossKV, heads: int) -> None:
        for kind, rows in (("k", kv.keys), ("v", kv.values)):
            self.out[f"{name}.{kind}"] = rows[: kv.length].reshape(kv.length, heads, -1).transpose(1, 0, 2)

    def _conditioning(self) -> None:
        c = self.model.condition
        base = c.base(self.out["text.pool"], 0, self.steps)
        self.out["cond.base"] = base
        for strength in self.case["style_strengths"]:
            film = c.film(base, c.film.affine(self.voice.speaker, strength))
            attended = c.attend(film, self.voice.reference_kv)
            self.out[f"cond.s{strength}.film"] = film
            self.out[f"cond.s{strength}.xattn"] = attended
            self.out[f"cond.s{strength}.out"] = c.norm(attended)

    # ------------------------------------------------------------ first codebook

    def _prefixes(self) -> dict[str, int]:
        """Name -> number of reference codes before the first frame; one nameless variant without any."""
        if not self.model.config.prefix_frames:
            return {"": 0}
        r = len(self.given["ref_tokens"])
        frames = {
            "noprefix": 0,
            "prefix": self.model.config.prefix_frames,
            "prefix2": round(0.16 * self.model.config.frame_rate),
        }
        return {f"{name}.": min(r, p) for name, p in frames.items()}

    def _new_state(self, prefix: int) -> ArState:
        return self.model.ar.new_state(self.given["ref_tokens"][:prefix, 0])

    def _teacher_forced(self, rows: np.ndarray) -> None:
        forced = self.given["ar.forced"]
        self.out["ar.forced"] = forced
        for name, prefix in self._prefixes().items():
            state = self._new_state(prefix)
            logits = []
            for row, code in zip(rows, forced, strict=True):
                logits.append(self.model.ar.step(row, state, self.utterance))
                state.push(int(code))
            if name:
                self.out[f"ar.tf.{name}P"] = np.array([prefix])
                self.out[f"ar.tf.{name}logits"] = np.stack(logits)
                self._stop_probabilities(f"ar.tf.{name}p_stop", forced, rows)
                self._windows(name, prefix, state.codes, rows)
            else:
                self.out["ar.tf.logits_step"] = np.stack(logits)
                self.out["ar.tf.x"] = self.model.ar.inputs(rows, state.codes[:-1], 1)
                self.out["ar.tf.logits_forward"] = self.model.ar.logits(
                    self.out["ar.tf.x"], self._new_state(0).tails, self.utterance.text_kv
                )

    def _stop_probabilities(self, name: str, codes: np.ndarray, rows: np.ndarray) -> None:
        stop = self.model.stop.new_state()
        if isinstance(stop, StopHead):
            p = [stop.probability(int(c), row) for c, row in zip(codes, rows, strict=True)]
            self.out[name] = np.array(p, np.float32)

    def _windows(self, name: str, prefix: int, codes: list[int], rows: np.ndarray) -> None:
        """First and last input row of the window that upstream recomputes at every step."""
        ar = self.model.ar
        k, receptive = len(ar.history), self.case["rf_ar"]
        first, last = [], []
        for t in range(len(rows)):
            x = ar.inputs(rows[: t + 1], codes[: k + prefix + t], min(k, prefix + t + 1))
            first.append(x[max(0, t + 1 - receptive)])
            last.append(x[-1])
        self.out[f"ar.tf.{name}last_input"] = np.stack(last)
        self.out[f"ar.tf.{name}window1_first_input"] = np.stack(first)

    def _greedy(self, rows: np.ndarray) -> None:
        if self.model.config.stop == "code":
            for kind, choose in (("pure", raw_argmax), ("stream", penalised_argmax)):
                for label, least in (("min0", 0), ("min12", 12), ("nostop", 10**9)):
                    if f"greedy.{kind}_{label}.tokens" in self.names:
                        codes = self._walk(rows, 0, choose, least)
                        ends = codes == self.model.config.code_values
                        self.out[f"greedy.{kind}_{label}.tokens"] = codes
                        self.out[f"greedy.{kind}_{label}.is_eos"] = ends.astype(np.int64)
            return
        for name, prefix in self._prefixes().items():
            codes = self._walk(rows, prefix, raw_argmax, 10**9)
            self.out[f"greedy.pure.{name}tokens"] = codes
            self._stop_probabilities(f"greedy.pure.{name}p_stop", codes, rows)
            self.out[f"greedy.stream.{name}tokens"] = self._walk(rows, prefix, penalised_argmax, 10**9)

    def _walk(self, rows: np.ndarray, prefix: int, choose: Chooser, least: int) -> np.ndarray:
        """Step through all rows; an end code counts from step `least` on, before it is fed back like any code."""
        state = self._new_state(prefix)
        codes: list[int] = []
        for row in rows:
            code = choose(self.model.ar.step(row, state, self.utterance), codes)
            codes.append(code)
            state.push(code)
            if code == self.model.config.code_values and len(codes) >= least:
                break
        return np.array(codes)

    # ------------------------------------------------------------ the rest

    def _nar(self, rows: np.ndarray, t: int) -> None:
        nar = self.model.nar
        first = self.given[f"nar.T{t}.rvq1"]
        codes = np.zeros((t, nar.codebooks), np.int64)
        codes[:, 0] = first
        self.out[f"nar.T{t}.rvq1"] = first
        tails = nar.new_state().tails
        for letter, stage, own in zip(self.letters, nar.stages, tails, strict=True):
            ids = table_rows(codes[:, nar.order], nar.order, nar.code_values)
            known = stage.known_sum(ids, nar.table)
            logits = stage.logits(stage.features(rows[:t], known, own, t))
            codes[:, stage.codebooks] = logits.argmax(axis=2)
            self.out[f"nar.T{t}.{letter}.prev_emb"] = known
            self.out[f"nar.T{t}.{letter}.logits"] = logits.transpose(1, 0, 2)
        for (known, logits), letter in zip(nar.forced_logits(rows[:t], codes), self.letters, strict=True):
            assert (known == self.out[f"nar.T{t}.{letter}.prev_emb"]).all(), "forced codes are embedded in another way"
            assert (logits.transpose(1, 0, 2) == self.out[f"nar.T{t}.{letter}.logits"]).all()
        self.out[f"nar.T{t}.tokens"] = nar(rows[:t], first, nar.new_state())
        assert (self.out[f"nar.T{t}.tokens"] == codes).all(), "the stages and the refiner disagree"

    def _generate(self, max_frames: int) -> None:
        # The golden runs have the stop head switched off by a threshold that no probability reaches.
        options = Options(max_frames=max_frames, style_strength=self.style, stop_threshold=2.0)
        session = Session(
            self.model, self.utterance, options, self.tts.runtime, sampler=lambda logits: int(logits.argmax())
        )
        blocks = [np.zeros((0, self.model.config.codebooks), np.int64), *session.blocks()]
        self.out[f"generate.argmax.max{max_frames}.tokens"] = np.concatenate(blocks)


def trace_sopro(tts: Sopro, case: dict[str, Any], vectors: Tensors) -> Tensors:
    """All input sets of a case -> tensors under golden's names."""
    out: Tensors = {"pe.rows": vectors["pe.rows"], "pe.values": _positions(tts.model, vectors["pe.rows"])}
    for prefix in sorted({n.split(".")[0] for n in vectors if re.match(r"in\d+\.", n)}):
        mine = {n[len(prefix) + 1 :]: v for n, v in vectors.items() if n.startswith(f"{prefix}.")}
        inputs = {n: v for n, v in mine.items() if v.dtype == np.int64}
        out.update({f"{prefix}.{n}": v for n, v in SoproTrace(tts, case, inputs, mine).run().items()})
    return out


def _positions(model: Model, rows: np.ndarray) -> np.ndarray:
    """Rows of the sinusoid, from whichever stored table is long enough."""
    tables = (model.condition.positions, model.text.positions)
    return max(tables, key=len)[rows]
