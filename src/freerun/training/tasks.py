"""The task of a trained model, by its record, and examples to evaluate it on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from freerun.data import Codec, Examples, TextCodec
from freerun.data.codec import CODEC_FILE
from freerun.data.files import get_suffix
from freerun.data.tables import FORMATS
from freerun.errors import CheckpointError
from freerun.models.loading import find_media_kind
from freerun.models.settings import PretrainedSettings
from freerun.policy import Policy
from freerun.settings import SettingError, build, list_settings, to_dict
from freerun.tasks import (
    Continuation,
    ImageToText,
    Pairs,
    SpeechToText,
    Task,
    encode_file,
    find_task,
    load_data,
    load_file,
)
from freerun.tasks.media import MediaTask
from freerun.training.checkpoints import ADAPTER_CONFIG, CONFIG, load_policy
from freerun.training.checks import check_lengths
from freerun.training.loading import build_policy, load_matching
from freerun.training.record import find_record, has_record

_LOGGER = logging.getLogger(__name__)

Split = Literal["test", "dev"]
_MAX_NEW_TOKENS = 256
_TRAINED_ON = {"data": "a part of it; add --split test", "train": "it; name another file"}
"""Settings of tasks that name training data, and what to do instead."""


def load_task(directory: str, data: str | None = None) -> Task:
    """Return the task that the model in a folder was trained on.

    Args:
        directory: the folder of a run, or of a checkpoint in it.
        data: the current path of the data, if they were moved.

    Raises:
        CheckpointError: if the folder does not say what the task is.
        SettingError: if `data` is given, and the task comes with its data.
    """
    path, record = find_record(directory)
    name, found = record.task["name"], dict(record.task["settings"])
    try:
        task = find_task(name)
    except SettingError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if data is not None:
        if "data" not in list_settings(task):
            raise SettingError(f"--data does not apply: the task {name} comes with its data")
        found["data"] = data
    try:
        return build(task, found, f"task {name}")
    except SettingError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_examples(
    checkpoint: str, codec: Codec, split: Split | None, data: str | None
) -> tuple[Task, Examples, str]:
    """Load examples that a model was not trained on.

    Args:
        checkpoint: the folder of the model.
        codec: the codec of the model.
        split: a split of the data of its task; by default the file `data` as a whole, or test.
        data: a file in the format of the task; with `split`, where the data of the task are now.

    Returns:
        The task of the model, the examples, and their name.

    Raises:
        CheckpointError: if the folder does not say what the task is.
        SettingError: if the model was trained on that file, or its task comes with its data.
        DataError: if the data cannot be used.
    """
    task = load_task(checkpoint, data if split else None)
    if data is not None and split is None:
        for name, instead in _TRAINED_ON.items():
            known = to_dict(task).get(name)
            if known and _is_same_file(data, known):
                raise SettingError(f"{data}: the model was trained on {instead}")
        return task, encode_file(task, codec, data), data
    loaded = load_data(task, codec)
    return task, loaded.dev if split == "dev" else loaded.test, split or "test"


@dataclass(frozen=True)
class Measured:
    """A model and the examples to measure it on.

    Attributes:
        policy: the model.
        codec: what it reads and writes.
        task: the task, which defines the metrics.
        examples: the examples.
        name: what to call them.
    """

    policy: Policy
    codec: Codec
    task: Task
    examples: Examples
    name: str


READING = (
    "source_columns",
    "target_column",
    "reference_columns",
    "repeated",
    "column_separator",
    "header",
    "separator",
)
"""The settings of `Pairs` that say how to read rows for a model that freerun did not train."""


def load_measured(
    folder: str,
    split: Split | None,
    data: str | None,
    language: str | None = None,
    pairs: Mapping[str, Any] | None = None,
) -> Measured:
    """Load a model and examples to measure it on.

    Args:
        folder: the folder of a model that freerun trained, or of any Hugging Face model.
        split: a split of the data that the model was trained on; by default the file `data` as a
            whole, or test.
        data: a file in the format of the task; with `split`, where the data of the task are now.
            For a model that freerun did not train, a file of rows as `Pairs` reads them, or else of
            text as `Continuation` reads it; or a folder of images or sounds with their texts.
        language: the language of the sounds, for a multilingual Whisper that freerun did not train.
        pairs: the settings of `Pairs` that say how to read rows, for a model of text that freerun
            did not train; with any, the file has rows.

    Raises:
        CheckpointError: if there is no such model, or it cannot be read.
        SettingError: if the examples are not named, the model was trained on them, or a setting
            does not apply.
        DataError: if the data cannot be used.
    """
    if split is not None and split not in get_args(Split):
        raise SettingError(f"split is {split!r}; it must be one of {', '.join(get_args(Split))}")
    for name in pairs or ():
        if name not in READING:
            raise SettingError(f"{name} does not apply: it must be one of {', '.join(READING)}")
    if _is_pretrained(folder):
        measured = _load_pretrained(folder, split, data, language, pairs or {})
    else:
        _refuse_language(language)
        _refuse_pairs(pairs, "freerun trained the model, and its task says how to read rows")
        policy, codec = load_policy(folder)
        measured = Measured(policy, codec, *load_examples(folder, codec, split, data))
    check_lengths(measured.policy, measured.examples, measured.name)
    return measured


def load_predictor(
    folder: str, max_new_tokens: int | None, language: str | None = None
) -> tuple[Policy, Codec]:
    """Load a model to predict with, and its codec.

    Args:
        folder: the folder of a model that freerun trained, or of any Hugging Face model.
        max_new_tokens: the maximum number of tokens of an output of a model that freerun did not
            train; by default 256.
        language: the language of sounds, for a multilingual Whisper that freerun did not train.

    Raises:
        CheckpointError: if there is no such model, or it cannot be read.
        DataError: if a multilingual model is given no language.
        SettingError: if freerun trained the model, which has a maximum length and a language.
    """
    if not _is_pretrained(folder):
        _refuse_language(language)
        if max_new_tokens is not None:
            raise SettingError(
                "max_new_tokens does not apply: freerun trained the model, whose outputs have a "
                "maximum length"
            )
        return load_policy(folder)
    settings = PretrainedSettings(path=folder)
    limit = _MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
    task = _find_media_task(settings, "", language)
    if task is not None:
        codec: Codec = replace(settings.make_media_codec(task), limit=limit)
    else:
        tokenizer, start = settings.load_tokenizer()
        codec = TextCodec(tokenizer, limit=limit, bos=start, continues=start is None)
    return build_policy(settings, codec), codec


def load_oracle(folder: str, measured: Measured) -> Policy:
    """Load a model that judges another one, in the tokens of that one.

    Args:
        folder: the folder of a model that freerun trained, or of any Hugging Face model.
        measured: the model that it judges, and the examples.

    Raises:
        CheckpointError: if there is no such model, it cannot be read, or it has other tokens.
        DataError: if it is too small for the examples.
    """
    oracle = load_matching(folder, measured.codec)
    check_lengths(oracle, measured.examples, measured.name)
    return oracle


def find_source_task(folder: str) -> Task | None:
    """Return the task that reads the sources of a model; None if its codec does.

    If the task is a user's and is not found, a warning says so.
    """
    if not has_record(folder):
        return None
    try:
        return load_task(folder)
    except CheckpointError as error:
        _LOGGER.warning("%s; so every line is read as plain text", error)
        return None


def _find_media_task(
    settings: PretrainedSettings, data: str, language: str | None
) -> MediaTask | None:
    """Return the task of a model that reads images or sounds; None for text."""
    media = find_media_kind(settings.path)
    if media == "audio":
        return SpeechToText(data=data, language=language)
    _refuse_language(language)
    return None if media is None else ImageToText(data=data)


def _refuse_language(language: str | None) -> None:
    if language is not None:
        raise SettingError(
            "language does not apply: it is that of sounds for a model that freerun did not train"
        )


def _refuse_pairs(pairs: Mapping[str, Any] | None, reason: str) -> None:
    for name in pairs or ():
        raise SettingError(f"{name} does not apply: {reason}")


def _is_pretrained(folder: str) -> bool:
    """Return whether a folder has a Hugging Face model that freerun did not train.

    Raises:
        CheckpointError: if there is no such folder, or no model in it.
    """
    here = Path(folder)
    if not here.is_dir():
        raise CheckpointError(f"{folder}: there is no such directory")
    if (here / CODEC_FILE).exists() or has_record(folder):
        return False
    if not any((here / name).exists() for name in (CONFIG, ADAPTER_CONFIG)):
        raise CheckpointError(
            f"{folder}: it is neither a model that freerun trained (there is no {CODEC_FILE}) "
            f"nor a Hugging Face model (there is no {CONFIG})"
        )
    return True


def _load_pretrained(
    folder: str,
    split: Split | None,
    data: str | None,
    language: str | None,
    pairs: Mapping[str, Any],
) -> Measured:
    """Load a model that freerun did not train, and a file of rows or of text."""
    if data is None:
        raise SettingError(
            f"--data is missing: freerun did not train {folder}, so name a file to measure it on: "
            f"of rows ({', '.join(FORMATS)}), or of text; or a folder of images or sounds"
        )
    if split is not None:
        raise SettingError(f"--split does not apply: freerun did not train {folder}")
    settings = PretrainedSettings(path=folder)
    media = _find_media_task(settings, data, language)
    if media is not None:
        _refuse_pairs(pairs, "the model reads images or sounds")
        codec, examples = load_file(media, data, codec=settings.make_media_codec(media))
        return Measured(build_policy(settings, codec), codec, media, examples, data)
    tokenizer, start = settings.load_tokenizer()
    is_rows = bool(pairs) or get_suffix(data) in FORMATS
    task: Task = Continuation(data=data)
    if is_rows:
        task = build(Pairs, {**pairs, "data": data}, "task pairs")
    codec, examples = load_file(task, data, tokenizer, start)
    return Measured(build_policy(settings, codec), codec, task, examples, data)


def _is_same_file(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
