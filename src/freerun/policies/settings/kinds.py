"""The kinds of models, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freerun.policies.settings.base import ModelSettings
from freerun.policies.settings.pretrained import PretrainedSettings
from freerun.policies.settings.recurrent import RecurrentSettings
from freerun.policies.settings.scratch import CausalSettings, Seq2SeqSettings
from freerun.settings import SettingError, build, did_you_mean

SCRATCH: dict[str, type[ModelSettings]] = {
    cls.kind: cls for cls in (RecurrentSettings, CausalSettings, Seq2SeqSettings)
}
"""The kinds that can be trained from scratch."""

KINDS: dict[str, type[ModelSettings]] = {**SCRATCH, PretrainedSettings.kind: PretrainedSettings}
"""All kinds."""


def kind_of(model: str) -> type[ModelSettings]:
    """The settings of what a user calls a model: a kind to train from scratch, or where one is.

    Raises:
        SettingError: where it is nearly the name of a kind: no model of the hub is called so.
    """
    if model == PretrainedSettings.kind:
        raise SettingError("a pretrained model is named by its directory or its id on the hub")
    near = difflib.get_close_matches(model.lower(), SCRATCH, n=1, cutoff=0.75)
    if model not in SCRATCH and near and "/" not in model and not Path(model).exists():
        raise SettingError(f"unknown kind of model {model!r}; did you mean {near[0]!r}?")
    return SCRATCH.get(model, PretrainedSettings)


def settings_from(record: Mapping[str, Any]) -> ModelSettings:
    """The settings that were written down (see `ModelSettings.record`).

    Records from before there were kinds are of recurrent models.

    Raises:
        SettingError: where the kind or a setting is unknown, or a value is wrong.
    """
    values = dict(record)
    kind = values.pop("kind", RecurrentSettings.kind)
    if kind not in KINDS:
        raise SettingError(f"unknown kind of model {kind!r}{did_you_mean(str(kind), KINDS)}")
    return build(KINDS[kind], values, "model")
