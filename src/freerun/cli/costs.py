"""`freerun costs`: the cost of every token in every cell of an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType

from freerun.cli.measuring import check_output
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.console import Console
from freerun.evaluation import on_device
from freerun.methods import SEARNN, Clock
from freerun.report import require_plots
from freerun.report.cost_vectors import (
    CostVectors,
    HeatMap,
    Outcomes,
    cost_vectors,
    heading,
    outputs_of_cell,
    save_picture,
)
from freerun.report.cost_vectors.values import FEW
from freerun.settings import SettingError, check_seed
from freerun.study import parse_method
from freerun.training import load_policy
from freerun.training.checks import check_lengths
from freerun.training.processes import limit_threads
from freerun.training.tasks import Split, load_examples

COSTS_NOTES = """\
A cell is a position of the output. In each of them the search of SEARNN tries every token,
completes the output, and computes the cost of the result.
"""
LEARNED = "searnn:roll_in=learned,roll_out=learned"
"""The default search, which shows the costs that this model's own outputs lead to."""

SAMPLED = f"{LEARNED},token_choice=top_k,tokens=25"
"""The default search if the vocabulary is too large for a row per token."""


@dataclass(frozen=True)
class CostsOptions:
    """The options of `freerun costs` itself.

    Args:
        checkpoint: the folder of a trained model, trained by any method.
        method: the search: searnn with settings, such as searnn:roll_out=reference. By default the
            model itself rolls in and out, and the 25 best tokens are tried if there are more than
            100.
        split: the split of the task's data that the example is from, `test` or `dev`; test by
            default.
        data: a file in the format of the task that the example is from; with --split, where the
            data of the task are now.
        example: the number of the example, from 1.
        cell: show all outputs of this cell, counted from 1, instead of the heat map.
        seed: the seed of coins and samples in the search.
        png: a file to draw the heat map to as well.
    """

    checkpoint: str
    method: str | None = None
    split: Split | None = None
    data: str | None = None
    example: int = 1
    cell: int | None = None
    seed: int = 0
    png: str | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        check_seed(self.seed)


class CostsCommand(SettingsCommand):
    """Show what every token would cost in every cell of an output, and what it would lead to."""

    notes = COSTS_NOTES

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(CostsOptions, positional=["checkpoint"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(CostsOptions, "options")
        if own.png is not None:
            check_output("--png", own.png)
            require_plots()
        limit_threads()
        vectors = _search_example(own)
        shown: list[RenderableType] = [HeatMap(vectors), Outcomes(vectors)]
        if own.cell is not None:
            try:
                shown = [outputs_of_cell(vectors, own.cell)]
            except ValueError as error:
                raise SettingError(f"--cell is {own.cell}; {error}") from None
        if own.png is not None:
            save_picture(vectors, Path(own.png))
        Console().print(heading(vectors), "", *shown, sep="\n")


def _search_example(own: CostsOptions) -> CostVectors:
    """Load the model and search the example."""
    chosen = None if own.method is None else _parse_search(own.method)
    policy, codec = load_policy(own.checkpoint)
    task, examples, name = load_examples(own.checkpoint, codec, own.split, own.data)
    if not 1 <= own.example <= len(examples):
        raise SettingError(f"--example is {own.example}; {name} has 1 to {len(examples):,}")
    check_lengths(policy, examples, name)
    default = LEARNED if codec.target.actions <= FEW else SAMPLED
    method = (chosen or _parse_search(default)).for_task(task)
    try:
        method = method.for_codec(codec)
        method.check(codec.target)
    except ValueError as error:
        raise SettingError(f"--method is {own.method!r}: {error}") from None
    batch = on_device(examples.batch([own.example - 1]), policy)
    found = method.search(policy, batch, Clock(seed=own.seed))
    title = f"{task.name}, {name}, example {own.example:,} of {len(examples):,}"
    return cost_vectors(found, policy, codec, batch, method, name=title)


def _parse_search(specification: str) -> SEARNN:
    """Return the search that `--method` specifies."""
    method = parse_method(specification)
    if not isinstance(method, SEARNN):
        raise SettingError(f"--method is {specification!r}; only searnn searches for costs")
    return method
