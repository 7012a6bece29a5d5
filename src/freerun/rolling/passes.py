"""Parallel passes: a roll-in that reads whole rows again and again instead of cell by cell.

Duckworth, Neelakantan, Goodrich, Kaiser, Bengio 2019, *Parallel Scheduled Sampling*, arXiv
1906.04331; of two passes, Mihaylova, Martins 2019, *Scheduled Sampling for Transformers*, arXiv
1906.07651. The first pass reads the reference. Each later one reads, at own cells, what the scores
of the pass before it gave: scores at prefixes that were one pass older.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Bool, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.policy import Policy
from freerun.rolling.choices import precise
from freerun.rolling.own import Feed, OwnInputs


def check_passes(passes: int | None) -> None:
    """Check a number of passes, the last included; None is as many steps as there are cells.

    Raises:
        ValueError: where there are fewer than two.
    """
    if passes is not None and passes < 2:
        raise ValueError(
            f"passes is {passes}; it must be at least 2, as the first reads no own token, or left "
            "out to go cell by cell"
        )


def own_by_passes(
    policy: Policy,
    batch: Batch,
    reference: Int[Tensor, "b t"],
    own: Bool[Tensor, "b t"],
    feed: Feed,
    passes: int,
) -> OwnInputs:
    """What own cells read in the last of so many passes; the others are run here.

    The i-th own cell of a row reads from its pass i + 1 on what it would read if cells were run one
    by one. So no more passes are run than that takes, and none of rows without own cells.

    Args:
        policy: the model.
        batch: the sentences.
        reference: the reference inputs of every cell.
        own: cells that read what the policy wrote; not among them cell 0.
        feed: makes it of the scores at the cell before.
        passes: at least 2, the last included.
    """
    rows, cells = own.nonzero().unbind(1)
    found = OwnInputs(rows, cells, None)
    if len(rows) == 0:
        return found
    counts = own.sum(1)
    run = counts.nonzero()[:, 0]
    source, before = batch.source.select(run), own.roll(-1, 1)[run]
    for _ in range(min(passes - 1, int(counts.max()))):
        trace = policy.force(source, found.among(policy, reference)[run])
        scores = precise(trace.logits(before))
        found = replace(found, fed=feed(scores, rows, cells - 1))
    return found
