"""`freerun costs`: what every token would cost at every cell of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType

from freerun.cli.examples import Split, check_folder, examples_of
from freerun.cli.options import Options
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
from freerun.settings import SettingError
from freerun.study import method_of
from freerun.training import load_policy
from freerun.training.checks import check_lengths
from freerun.training.processes import limit_threads

SUMMARY = "Show what every token would cost at every cell of a sentence, and what it would lead to."
USAGE = (
    "CHECKPOINT [--method METHOD] [--split {test,dev}] [--data PATH] [--example N] [--cell N] "
    "[--seed N] [--png FILE]"
)
EPILOG = """\
A cell is a position of the output. At each of them the search of SEARNN tries
every token, finishes the sentence, and says what the outcome costs.
"""
LEARNED, SOME = "searnn:roll_in=learned,roll_out=learned", "token_choice=top_k,tokens=25"
"""What is searched where the user says nothing; the second, where a row for each is too much."""


@dataclass(frozen=True)
class Costs:
    """The options of `freerun costs` itself.

    Args:
        checkpoint: the folder of a trained model, whichever method it was trained by.
        method: the search, as searnn with settings, such as searnn:roll_out=reference; left out,
            roll-in and roll-out are learned, so that it shows what this model leads to, and the 25
            best tokens are tried where there are more than 100.
        split: which part of the task's data to take an example of, `test` or `dev`; left out, test.
        data: a file of the task's format to take it of; with --split, where the task's data is now.
        example: which example, counted from 1.
        cell: show all outputs of this cell, counted from 1, in place of the heat map.
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


def run(words: list[str]) -> None:
    """Run the command."""
    options = Options("freerun costs", USAGE, SUMMARY, EPILOG)
    options.add(Costs, "options", positional=["checkpoint"])
    options.parse(words)
    own = options.build(Costs, "costs")
    if own.png is not None:
        check_folder("--png", own.png)
        require_plots()
    limit_threads(None)
    vectors = _vectors(own)
    shown: list[RenderableType] = [HeatMap(vectors), Outcomes(vectors)]
    if own.cell is not None:
        try:
            shown = [outputs_of_cell(vectors, own.cell)]
        except ValueError as error:
            raise SettingError(f"--cell is {own.cell}; {error}") from None
    if own.png is not None:
        save_picture(vectors, Path(own.png))
    Console(highlight=False).print(heading(vectors), "", *shown, sep="\n")


def _search(spec: str) -> SEARNN:
    """The search of a text."""
    method = method_of(spec)
    if not isinstance(method, SEARNN):
        raise SettingError(f"--method is {spec!r}; only searnn searches for costs")
    return method


def _vectors(own: Costs) -> CostVectors:
    """Load the model, and search the example."""
    chosen = None if own.method is None else _search(own.method)
    policy, codec = load_policy(own.checkpoint)
    task, examples, name = examples_of(own.checkpoint, codec, own.split, own.data)
    if not 1 <= own.example <= len(examples):
        raise SettingError(f"--example is {own.example}; {name} has 1 to {len(examples):,}")
    check_lengths(policy, examples, name)
    usual = LEARNED if codec.target.actions <= FEW else f"{LEARNED},{SOME}"
    method = (chosen or _search(usual)).for_task(task)
    try:
        method.check(codec.target)
    except ValueError as error:
        raise SettingError(f"--method is {own.method!r}: {error}") from None
    batch = on_device(examples.batch([own.example - 1]), policy)
    found = method.search(policy, batch, Clock(seed=own.seed))
    title = f"{task.name}, {name}, example {own.example:,} of {len(examples):,}"
    return cost_vectors(found, policy, codec, batch, method, name=title)
