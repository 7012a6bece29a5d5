"""OCR as in the code of Leblond et al. 2018: the task, and the initial weights.

    python docs/results/ocr-published/setting.py data/ocr/letter.data.gz 0 runs/start

writes a model with such weights, drawn by seed 0, from which all methods start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from freerun.data import Row, Splits, Tokens
from freerun.data.files import read_lines
from freerun.data.letters import LETTERS, read_words
from freerun.metrics import Metric, metric
from freerun.metrics.sequences import find_cell_errors
from freerun.metrics.statistics import Statistics, divide_sums
from freerun.models.settings.scratch import RecurrentSettings
from freerun.tasks import Ocr, load_data

END = "$"
"""The label of the cell after the last letter."""


@metric(form="cells", greater_is_better=False)
def letter_error(
    outputs: Sequence[Sequence[int]], references: Sequence[Sequence[int]]
) -> Statistics:
    """Compute the fraction of letters that are wrong; the cell of the end does not count."""
    pairs = zip(outputs, references, strict=True)
    rows = [(sum(find_cell_errors(*pair)[:-1]), len(pair[1]) - 1) for pair in pairs]
    return Statistics.build(rows, 2, divide_sums)


@metric(form="cells", greater_is_better=False)
def early_ends(outputs: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> Statistics:
    """Compute the fraction of letters in whose place the end is written."""
    pairs = zip(outputs, references, strict=True)
    rows = [(sum(one == right[-1] for one in out[:-1]), len(right) - 1) for out, right in pairs]
    return Statistics.build(rows, 2, divide_sums)


@dataclass(frozen=True)
class Published(Ocr):
    """Handwritten words, each with one more cell for its end; all other folds are trained on.

    The cell of the end has a blank image. The test fold is also dev: every evaluation is on test.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (letter_error, early_ends)  # type: ignore[assignment]
    target_tokens: ClassVar[Tokens] = Tokens("characters", alphabet=LETTERS + END)

    def rows(self) -> Splits[Row]:
        """Read the words of all folds."""
        words = read_words(read_lines(self.data), self.data)
        train = [_add_end(word.row) for word in words if word.fold != self.fold]
        test = [_add_end(word.row) for word in words if word.fold == self.fold]
        return Splits({"train": train, "dev": test, "test": test}, ["dev is test"])


def _add_end(row: Row) -> Row:
    blank = np.zeros_like(row["features"][:1])
    features = np.concatenate([row["features"], blank])
    return {**row, "features": features, "target": row["target"] + END}


def write_start(data: str, seed: int, output: str) -> None:
    """Write a model with initial weights like those of the authors' code, drawn by `seed`.

    The output layer is Xavier-uniform with zero bias, embeddings are Kaiming-uniform, and the GRUs
    have torch's own initial weights.
    """
    codec = load_data(Published(data)).codec
    torch.manual_seed(seed)
    policy = RecurrentSettings().build(codec)
    nn.init.kaiming_uniform_(policy.embedding.weight)
    nn.init.xavier_uniform_(policy.output.weight)
    nn.init.zeros_(policy.output.bias)
    policy.save_pretrained(output)
    codec.save_pretrained(output)


if __name__ == "__main__":
    write_start(sys.argv[1], int(sys.argv[2]), sys.argv[3])
