"""`freerun train`: one method on one task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from freerun.cli.experiment import chosen_task, first_process, options_of, training_of
from freerun.cli.figures import figures
from freerun.cli.models import chosen_model
from freerun.methods.base import suited
from freerun.study import method_of, suitable
from freerun.training import fit
from freerun.training.folders import no_file

SUMMARY = "Train a model on a task by one method, and keep the one that is best on dev."
USAGE = (
    "--output DIR [--method METHOD] [--model MODEL] [--init CHECKPOINT] [--config FILE] [SETTINGS]"
)


@dataclass(frozen=True)
class Train:
    """The options of `freerun train` itself.

    Args:
        output: the folder of the model and its checkpoints; an unfinished run in it goes on.
        method: how to train: a name that `freerun methods` lists, with settings after a colon, such
            as scheduled_sampling:schedule=linear,k=0.9.
        model: what to train: a new model, whose weights are drawn (`recurrent`, `causal` or
            `seq2seq`); or a trained one to go on from, by its directory or its id on the Hugging
            Face hub.
        init: the folder of a trained model of this kind to take the first weights from.
        config: a YAML file with settings.
        quiet: show no progress.
    """

    output: str
    method: str = "mle"
    model: str = "recurrent"
    init: str | None = None
    config: str | None = None
    quiet: bool = False


def run(words: list[str]) -> None:
    """Run the command."""
    chosen = chosen_task("train", words, SUMMARY)
    if chosen is None:
        return
    named = chosen_model(words[1:], chosen, init=True)
    options = options_of("train", chosen, named, Train, SUMMARY, USAGE, top=("seed", "budget"))
    options.parse(words[1:])
    own = options.build(Train, "train")
    method = method_of(own.method)
    training = training_of(options)
    model = named.build(options)
    task = options.build(chosen, f"task {chosen.name}")
    no_file(Path(own.output))
    data = model.load(task)
    suitable(
        {own.method: suited(method, task)},
        model,
        training,
        task,
        data,
        Path(own.output),
        init=None if own.init is None else Path(own.init),
    )
    quiet = own.quiet or not first_process()
    console = Console(stderr=True, quiet=quiet, highlight=False)
    for note in data.notes:
        console.print(note, style="dim", markup=False)
    run = fit(
        task,
        data,
        method,
        model=model,
        training=training,
        output=own.output,
        init=own.init,
        quiet=quiet,
    )
    if first_process():
        metrics = {name: run.dev[name] for name in run.dev if name != "teacher_forced_loss"}
        print(f"{task.name}, dev, free-running, greedy, after {run.updates:,} updates:")
        print(figures(metrics))
        print(f"The model is in {own.output}; on test:  freerun evaluate {own.output}")
