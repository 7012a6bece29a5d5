"""`freerun train` and `freerun compare`, whose options are those of task, model and training."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState

from freerun import report
from freerun.cli.options import SettingsCommand, UserSettings, peek
from freerun.console import Console
from freerun.evaluation import Decoding
from freerun.methods import Method
from freerun.models.settings import (
    KINDS,
    ModelSettings,
    PretrainedSettings,
    RecurrentSettings,
    find_model_kind,
)
from freerun.report.labels import metric_lines
from freerun.settings import SettingError, format_value, list_settings, to_dict
from freerun.study import compare, parse_method, parse_methods
from freerun.study.running import EngineName
from freerun.tasks.base import Task
from freerun.training import TrainingSettings, fit
from freerun.training.folders import check_not_file, check_unlocked
from freerun.training.model_source import read_model_settings

EXPERIMENT_NOTES = """\
The defaults are those of the task and the kind of model. A YAML file (--config) overrides them, and
flags override both. The flag --model.dropout 0.1 is in YAML

\b
  model:
    dropout: 0.1

A model has the settings of its kind: add --model KIND to --help to see those of another one. In
YAML, the kind is model: KIND, or kind: KIND next to the other settings of the model.
"""
COMPARE_NOTES = f"""{EXPERIMENT_NOTES}
Variants of a method are named in YAML, where methods is a list or a mapping:

\b
  methods:
    mle: {{}}
    ss_linear: {{scheduled_sampling: {{schedule: linear}}}}
    ss_half: scheduled_sampling:schedule=constant,k=0.5

--methods mle ss_half then compares these two.
"""
TERMINAL_WIDTH = 80
"""The width of text on a terminal."""
TASK_OPTIONS = ("data", "metrics", "headline")
"""The settings of tasks that are given without the prefix `task.`."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of `freerun train` itself.

    Args:
        output: the folder of the model and its checkpoints; an unfinished run in it is resumed.
        method: how to train: a name that `freerun methods` lists, or your own as file.py:Class or
            package.module:Class, with settings after a colon, such as
            scheduled_sampling:schedule=linear,k=0.9.
        model: what to train: a new model with random weights (`recurrent`, `causal` or `seq2seq`),
            or a trained one, by its directory or its id on the Hugging Face hub.
        init: the folder of a trained model of this kind to initialize the weights from.
        config: a YAML file with settings.
        quiet: show neither notes nor progress.
    """

    output: str
    method: str = "mle"
    model: str = "recurrent"
    init: str | None = None
    config: str | None = None
    quiet: bool = False


@dataclass(frozen=True)
class CompareOptions:
    """The options of `freerun compare` itself.

    Args:
        methods: the methods to compare: names that `freerun methods` lists, or your own as
            file.py:Class or package.module:Class, with settings after a colon, such as
            scheduled_sampling:schedule=linear,k=0.9; see below for other names of variants.
        seeds: the number of runs of each method, with the seeds 0, 1, …; or a list of seeds without
            spaces, such as [1,2].
        output: the folder for results, plots and models; an unfinished comparison in it is resumed.
        model: what to train: a new model with random weights (`recurrent`, `causal` or `seq2seq`),
            or a trained one, by its directory or its id on the Hugging Face hub.
        beam: also decode the test set by beam search with this number of hypotheses.
        tune: tune the settings of every method first, each with this number of trials on dev.
        jobs: the number of runs that are trained side by side; the results do not depend on it. By
            default 1, and with Ray as many as the cluster has CPUs or GPUs for.
        engine: where runs are trained side by side: in processes of this machine, or by Ray on the
            machines of a cluster.
        ray_address: the address of the cluster; by default that of RAY_ADDRESS, or a cluster on
            this machine, which is started if there is none.
        config: a YAML file with settings.
        quiet: show neither notes nor progress.
    """

    output: str
    methods: Any = ("mle", "scheduled_sampling", "differentiable_scheduled_sampling")
    seeds: int | list[int] = 3
    model: str = "recurrent"
    beam: int | None = None
    tune: int | None = None
    jobs: int | None = None
    engine: EngineName = "processes"
    ray_address: str | None = None
    config: str | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check the type, which may be any in YAML."""
        if not isinstance(self.methods, (str, list, tuple, dict)):
            shown = format_value(self.methods)
            raise ValueError(f"methods is {shown}; it must be a list or a mapping of methods")


class ExperimentCommand(SettingsCommand):
    """A command that trains models on one task.

    Args:
        name: what the user calls the task: its name, or the address of its class.
        task: the task.

    Attributes:
        own: the dataclass of the options that are neither of the task, the model nor its training.
        top: the settings of training that are given without the prefix `training.`.
    """

    own: ClassVar[type]
    top: ClassVar[Sequence[str]]
    notes = EXPERIMENT_NOTES

    def __init__(self, name: str, task: type[Task]) -> None:
        super().__init__(name)
        self.task = task
        self.model: str = RecurrentSettings.kind
        self.kind: type[ModelSettings] = RecurrentSettings

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings of the command, the task, the kind of model and its training."""
        task = self.task
        self.model, self.kind, defaults = choose_model(words, task)
        training = {**task.recipe.get("training", {}), **self.kind.training}
        self.add(task, only=["data"])
        self.add(self.own, defaults={"model": task.default_model})
        self.add(task, only=["metrics", "headline"])
        self.add(TrainingSettings, only=self.top, defaults=training)
        self.add(task, f"Task {task.name}", prefix="task.", skip=TASK_OPTIONS)
        self.add(self.kind, f"Model {self.model}", prefix="model.", skip=["path"],
                 defaults=defaults)  # fmt: skip
        self.add(TrainingSettings, "Training", prefix="training.", skip=["seed", "budget"],
                 defaults=training)  # fmt: skip
        self.hints = {**_hints_of_other_models(self.model, self.kind), **_EPOCHS}
        if "data" not in list_settings(task):
            self.hints["data"] = f"does not apply: the task {task.name} comes with its data"

    def build_task(self, settings: UserSettings) -> Task:
        """Return the task with the settings of the user."""
        return settings.build(self.task, f"task {self.task.name}")

    def build_model(self, settings: UserSettings) -> ModelSettings:
        """Return the settings of the model."""
        fixed = {"path": self.model} if self.kind is PretrainedSettings else {}
        return settings.build(self.kind, "model", **fixed)

    def build_training(self, settings: UserSettings) -> TrainingSettings:
        """Return the settings of training.

        Raises:
            SettingError: if one is out of range, or both updates and seconds are given.
        """
        training = settings.build(TrainingSettings, "training")
        places = settings.places
        if training.budget is not None and "training.updates" in places:
            both = f"{places['budget']} and {places['training.updates']}"
            raise SettingError(f"{both}: a budget of seconds takes the place of updates; give one")
        return training


class TrainCommand(ExperimentCommand):
    """Train a model on a task by one method, and keep the checkpoint that is best on dev."""

    own = TrainOptions
    top = ("seed", "budget")

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(TrainOptions, "options")
        method = parse_method(own.method)
        training, model = self.build_training(settings), self.build_model(settings)
        task = self.build_task(settings)
        check_not_file(Path(own.output))
        check_unlocked(Path(own.output))
        task, chosen = model.complete_task(task)
        data = model.load(task)
        data.notes.extend(chosen)
        quiet = own.quiet or not is_main_process()
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
        if is_main_process():
            metrics = {name: run.dev[name] for name in run.dev if name != "teacher_forced_loss"}
            print(f"{task.name}, dev, free-running, greedy, after {run.updates:,} updates:")
            print(metric_lines(metrics))
            command = shlex.join(["freerun", "evaluate", own.output])
            print(f"The model is in {own.output}; on test:  {command}")


class CompareCommand(ExperimentCommand):
    """Train several methods on a task under the same conditions, and compare how they run."""

    own = CompareOptions
    top = ("budget",)
    notes = COMPARE_NOTES

    def __init__(self, name: str, task: type[Task]) -> None:
        super().__init__(name, task)
        self.words: Sequence[str] = []

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings of all experiments, and those of decoding the test set."""
        super().declare(words)
        skip = ["beam", "length_penalty"]
        self.add(Decoding, "Decoding of the test set", prefix="decoding.", skip=skip)
        self.words = [str(self.name), *words]

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(CompareOptions, "options")
        methods = _parse_methods(own.methods, settings)
        comparison = compare(
            self.build_task(settings),
            methods,
            output=own.output,
            seeds=own.seeds,
            model=self.build_model(settings),
            training=self.build_training(settings),
            beam=own.beam,
            decoding=settings.build(Decoding, "decoding"),
            command=shlex.join(["freerun", "compare", *self.words]),
            tune=own.tune,
            jobs=own.jobs,
            engine=own.engine,
            ray_address=own.ray_address,
            quiet=own.quiet,
        )
        if is_main_process():
            console = Console()
            table = comparison.table
            # If output goes to a file, the width of a terminal is unknown.
            unbounded = console.options.update(width=sys.maxsize)
            console.width = max(console.width, console.measure(table, options=unbounded).maximum)
            console.print(table)
            print(report.legend(comparison.results), "", sep="\n")
            answer = (textwrap.fill(line, TERMINAL_WIDTH) for line in comparison.answer)
            print(*answer, "", sep="\n")
            print(*comparison.files, sep="\n")


def _parse_methods(given: Any, settings: UserSettings) -> dict[str, Method]:
    """Parse methods; a flag may select variants that the YAML file names.

    Raises:
        SettingError: names the flag or the line of the file.
    """
    configured, where = settings.overridden.get("methods", (None, ""))
    variants: dict[str, Method] = {}
    try:
        if isinstance(configured, (list, dict)):
            variants = parse_methods(configured)
        where = settings.places.get("methods", "methods")
        return parse_methods(given, variants)
    except SettingError as error:
        named = f"; variants in the file are {', '.join(variants)}" if variants else ""
        raise SettingError(f"{where}: {error}{named}") from None


def choose_model(
    words: Sequence[str], task: type[Task]
) -> tuple[str, type[ModelSettings], Mapping[str, Any]]:
    """Return the model that `--model` names; else that of `--init`, else the task's default.

    Args:
        words: the words of the command.
        task: its task, whose recipe has defaults for its default kind of model.

    Returns:
        What the user calls it, the class of its settings, and the defaults that differ from those
        of the class.

    Raises:
        DataError: if the YAML file cannot be read.
        CheckpointError: if there is no model at `--init`.
    """
    given = peek(words, "model", "init")
    name, checkpoint = given.get("model"), given.get("init")
    if not isinstance(name, str):
        name = None  # any other value in YAML is refused when all settings are read
    kind = None if name is None else find_model_kind(name)
    if checkpoint is not None:
        found = read_model_settings(str(checkpoint))
        if kind in (None, type(found)) and not isinstance(found, PretrainedSettings):
            return found.kind, type(found), to_dict(found)
        if kind is None:
            return str(checkpoint), PretrainedSettings, {}
    default = KINDS[task.default_model]
    recipe = task.recipe.get("model", {}) if kind in (None, default) else {}
    return name or default.kind, kind or default, recipe


def is_main_process() -> bool:
    """Return whether this process prints: the only one, unless a launcher started several."""
    return bool(PartialState().is_main_process)


_EPOCHS = dict.fromkeys(
    ("epochs", "num_train_epochs", "max_epochs", "training.epochs", "training.num_train_epochs"),
    "does not exist: set --training.updates; an epoch has as many as there are rows, divided by "
    "--training.batch_size",
)
"""Messages about what users of other tools look for."""


def _hints_of_other_models(model: str, kind: type[ModelSettings]) -> dict[str, str]:
    """Return messages about settings that only models of other kinds have."""
    owners: dict[str, list[str]] = {}
    for other in KINDS.values():
        for name in list_settings(other):
            owners.setdefault(name, []).append(other.kind)
    hints = {}
    for name in owners.keys() - {*list_settings(kind), "path"}:
        *first, last = owners[name]
        names = f"{', '.join(first)} and {last}" if first else last
        hints[f"model.{name}"] = f"is a setting of {names} models, but the model is {model}"
    return hints
