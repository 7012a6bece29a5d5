"""The model that a command names, and the settings that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from freerun.cli.options import Options, peek
from freerun.data import Task
from freerun.models.settings import (
    KINDS,
    ModelSettings,
    PretrainedSettings,
    RecurrentSettings,
    kind_of,
)
from freerun.settings import list_settings, to_dict
from freerun.training.resolve import settings_at

PREFIX = "model."
PLACE = "path"
"""The setting of a pretrained model that its name stands for."""


@dataclass(frozen=True)
class ChosenModel:
    """The model of a command.

    Attributes:
        name: what the user calls it.
        kind: the class of its settings.
        values: those that are not the defaults of the class.
    """

    name: str
    kind: type[ModelSettings]
    values: Mapping[str, Any] = field(default_factory=dict)

    def add(self, options: Options) -> None:
        """Add the settings of the model to a command."""
        title = f"the model, {self.name}"
        options.add(self.kind, title, prefix=PREFIX, skip=[PLACE], values=self.values)
        own = list_settings(self.kind)
        for name in {name for kind in KINDS.values() for name in list_settings(kind)} - {
            *own,
            PLACE,
        }:
            kinds = [kind.kind for kind in KINDS.values() if name in list_settings(kind)]
            *first, last = kinds
            having = f"{', '.join(first)} and {last}" if first else last
            options.elsewhere[PREFIX + name] = (
                f"is a setting of {having} models, but the model is {self.name}"
            )

    def build(self, options: Options) -> ModelSettings:
        """The settings as they were given.

        Raises:
            SettingError: where one is out of range.
        """
        settled = {PLACE: self.name} if self.kind is PretrainedSettings else {}
        return options.build(self.kind, "model", **settled)


def chosen_model(words: list[str], task: type[Task], *, init: bool) -> ChosenModel:
    """The model that a command names by flags or YAML; left out, that of `--init`, or recurrent.

    Args:
        words: the words of the command.
        task: its task, which knows what suits recurrent models.
        init: whether the command has `--init`.

    Raises:
        UsageError: where a flag has no value.
        DataError: where the YAML file cannot be read.
        CheckpointError: where there is no model at `--init`.
    """
    given = peek(words, "model", *(["init"] if init else []))
    name, checkpoint = given.get("model"), given.get("init")
    if not isinstance(name, str):
        name = None  # what YAML may have instead is refused when all settings are read
    kind = None if name is None else kind_of(name)
    if checkpoint is not None:
        found = settings_at(str(checkpoint))
        if kind in (None, type(found)) and not isinstance(found, PretrainedSettings):
            return ChosenModel(found.kind, type(found), to_dict(found))
        if kind is None:
            return ChosenModel(str(checkpoint), PretrainedSettings)
    recipe = task.recipe.get("model", {}) if kind in (None, RecurrentSettings) else {}
    return ChosenModel(name or RecurrentSettings.kind, kind or RecurrentSettings, recipe)
