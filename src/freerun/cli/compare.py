"""`freerun compare`: several methods on one task."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from freerun import report
from freerun.cli.experiment import chosen_task, first_process, options_of, training_of
from freerun.cli.models import chosen_model
from freerun.evaluation import Decoding
from freerun.settings import SettingError
from freerun.study import compare, methods_of

SUMMARY = "Train several methods on a task alike, and show how they differ when they run freely."
USAGE = (
    "[--methods METHOD …] [--seeds N] --output DIR [--model MODEL] [--budget SECONDS] [--beam N] "
    "[--config FILE] [SETTINGS]"
)

METHODS = """\

Variants of a method are named in YAML, where methods is a list or a mapping:
  methods:
    mle: {}
    ss_linear: {scheduled_sampling: {schedule: linear}}
    ss_half: scheduled_sampling:schedule=constant,k=0.5
"""


@dataclass(frozen=True)
class Compare:
    """The options of `freerun compare` itself.

    Args:
        methods: what to compare: names that `freerun methods` lists, with settings after a colon,
            such as scheduled_sampling:schedule=linear,k=0.9; see below for names of your own.
        seeds: how many runs of each method, with the seeds 0, 1, …; or the seeds, as in [3, 4].
        output: the folder for results, plots and models; an unfinished comparison in it goes on.
        model: what to train: a new model, whose weights are drawn (`recurrent`, `causal` or
            `seq2seq`); or a trained one to go on from, by its directory or its id on the Hugging
            Face hub.
        beam: also decode the test set by beam search, with so many hypotheses.
        config: a YAML file with settings.
        quiet: show no progress.
    """

    output: str
    methods: Any = ("mle", "scheduled_sampling", "differentiable_scheduled_sampling")
    seeds: int | list[int] = 3
    model: str = "recurrent"
    beam: int | None = None
    config: str | None = None
    quiet: bool = False


def run(words: list[str]) -> None:
    """Run the command."""
    chosen = chosen_task("compare", words, SUMMARY)
    if chosen is None:
        return
    named = chosen_model(words[1:], chosen, init=False)
    options = options_of("compare", chosen, named, Compare, SUMMARY, USAGE, top=("budget",))
    options.add(
        Decoding, "how the test set is decoded", prefix="decoding.", skip=["beam", "length_penalty"]
    )
    options.epilog += METHODS
    options.parse(words[1:])
    own = options.build(Compare, "compare")
    try:
        methods = methods_of(own.methods)
    except SettingError as error:
        raise SettingError(f"{options.places['methods']}: {error}") from None
    comparison = compare(
        options.build(chosen, f"task {chosen.name}"),
        methods,
        output=own.output,
        seeds=own.seeds,
        model=named.build(options),
        training=training_of(options),
        beam=own.beam,
        decoding=options.build(Decoding, "decoding"),
        command=shlex.join(["freerun", "compare", *words]),
        quiet=own.quiet,
    )
    if first_process():
        console = Console(highlight=False)
        console.print(comparison.table)
        print(report.legend(comparison.results), "", *map(str, comparison.files), sep="\n")
