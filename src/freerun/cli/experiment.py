"""What training and comparing have in common: a task, its data, a model and its training."""

from __future__ import annotations

from collections.abc import Collection

from accelerate import PartialState

from freerun.cli.models import ChosenModel
from freerun.cli.options import Options, UsageError
from freerun.data import Task
from freerun.settings import SettingError, did_you_mean, list_settings
from freerun.tasks import TASKS
from freerun.training import TrainingSettings

EPILOG = """\
Defaults are those that suit the task. A YAML file (--config) overrides them,
and flags override both. What is --model.dropout 0.1 as a flag is in YAML
  model:
    dropout: 0.1
A model has the settings of its kind: for others, add --model KIND to --help.
In YAML, model: KIND names it, or kind: KIND above its other settings.
"""


def chosen_task(command: str, words: list[str], summary: str) -> type[Task] | None:
    """The task that the first word names; None where the help of the command is asked for.

    Raises:
        UsageError: where the first word is no name.
        SettingError: where there is no such task, or it takes no data.
    """
    if not words or words[0].startswith("-"):
        if {"-h", "--help"} & set(words):
            print(_overview(command, summary))
            return None
        raise UsageError(f"the task comes first: freerun {command} TASK …, of {', '.join(TASKS)}")
    if words[0] not in TASKS:
        raise SettingError(f"unknown task {words[0]!r}{did_you_mean(words[0], TASKS)}")
    task = TASKS[words[0]]
    if "data" not in list_settings(task) and any(word.split("=")[0] == "--data" for word in words):
        raise SettingError(f"the task {task.name} takes no --data: its data come with it")
    return task


def options_of(
    command: str,
    task: type[Task],
    model: ChosenModel,
    own: type,
    summary: str,
    usage: str,
    top: Collection[str],
) -> Options:
    """The options of a command on a task.

    Args:
        command: its name.
        task: the task.
        model: the model.
        own: the dataclass of the command's own options.
        summary: what it does.
        usage: how its own options are used, in short.
        top: the settings of training that stand beside the command's own.
    """
    data = list_settings(task).get("data")
    if data is not None:
        usage = f"--data PATH {usage}" if data.required else f"[--data PATH] {usage}"
    options = Options(f"freerun {command} {task.name}", usage, summary, EPILOG)
    training = {**task.recipe.get("training", {}), **model.kind.training}
    options.add(task, "options", only=["data"])
    options.add(own, "options")
    options.add(TrainingSettings, "options", only=top, values=training)
    options.add(task, f"the task, {task.name}", prefix="task.", skip=["data"])
    model.add(options)
    skip = {"seed", "budget"}
    options.add(TrainingSettings, "its training", prefix="training.", skip=skip, values=training)
    return options


def training_of(options: Options) -> TrainingSettings:
    """How long and how fast to train.

    Raises:
        SettingError: where a setting is wrong, or both updates and seconds are given.
    """
    training = options.build(TrainingSettings, "training")
    places = options.places
    if training.budget is not None and "training.updates" in places:
        both = f"{places['budget']} and {places['training.updates']}"
        raise SettingError(f"{both}: a budget of seconds takes the place of updates; give one")
    return training


def first_process() -> bool:
    """Whether this is the process that writes: the only one, but for under a launcher."""
    return bool(PartialState().is_main_process)


def _overview(command: str, summary: str) -> str:
    """The help of a command before a task is chosen."""
    width = max(map(len, TASKS))
    return "\n".join(
        [
            f"Usage: freerun {command} TASK …",
            "",
            summary,
            "",
            "Tasks:",
            *(f"  {name:{width}}  {task.summary}" for name, task in TASKS.items()),
            "",
            f"Settings, with the defaults of a task:  freerun {command} TASK --help",
        ]
    )
