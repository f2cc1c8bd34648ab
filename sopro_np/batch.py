"""Several utterances in step: the AR's weights are read once per frame for all of them.

That is what a step's time goes into, so a step of four costs little more than a step of one. Nothing else is shared:
each utterance keeps its own state, and says what it would have said alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sopro_np.session import Session

TOGETHER = 16  # utterances in one step at most


def advance_together(sessions: Iterable[Session]) -> None:
    """Utterances of one model -> all their codes of codebook 0; `Session.blocks` goes on from there."""
    running, group = list(sessions), list[Session]()
    while running:
        ready = [s for s in running if s.model.ar.exact(s.state)]
        if len(ready) < 2:
            ready = []
        for session in running:
            if session not in ready:
                session.advance()
        if ready:
            rows = np.stack([s.next_row() for s in ready])
            with ready[0].computing():
                if ready != group:  # one came, or one ended
                    group, step = ready, ready[0].model.ar.together([s.state for s in ready], [s.text for s in ready])
                for session, row, logits in zip(group, rows, step(rows), strict=True):
                    session.take(row, logits)
        running = [s for s in running if s.finish_reason is None]
