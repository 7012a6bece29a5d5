"""Data without a task: rows of columns, or examples, with a tokenizer or a codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

from torch import nn
from transformers import PreTrainedTokenizerBase

from freerun.data import Codec, DataError, Examples, Row, Splits, TextCodec, TextExamples
from freerun.data.rows import find_kind
from freerun.data.text_codec import UNBOUNDED
from freerun.tasks import Task

Processing: TypeAlias = PreTrainedTokenizerBase | Codec


@dataclass(frozen=True)
class Datasets:
    """Data without a task: rows of columns, or Examples.

    Args:
        train: the data to train on.
        dev: the data to evaluate on, or None.
        processing: the tokenizer or codec of the model; None to load those saved with the model.
    """

    train: Any
    dev: Any = None
    processing: Processing | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """The data, by the names used in messages."""
        return {"train_dataset": self.train, "eval_dataset": self.dev}


@dataclass(frozen=True)
class GenericTask(Task):
    """The task of data without a task: outputs are compared with their references as text."""

    name: ClassVar[str] = "outputs"
    summary: ClassVar[str] = "outputs against their references, as text"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "character_error")

    def rows(self) -> Splits[Row]:
        """Not supported: the data are passed by the user, not read by the task.

        Raises:
            DataError: always.
        """
        raise DataError("data were given without a task; there is none to load")


def make_examples(data: Any, codec: Codec, name: str) -> Examples:
    """Encode rows as examples; return examples unchanged.

    Args:
        data: rows or examples.
        codec: the codec that encodes rows.
        name: the name of the data in messages.

    Raises:
        ValueError: if they are neither, or the codec does not read rows.
        DataError: if a row cannot be used.
    """
    if are_rows(data, name):
        return codec.encode(data, name)
    examples: Examples = data
    return examples


def are_rows(data: object, name: str) -> bool:
    """Return whether data are rows of columns, as opposed to examples.

    Raises:
        ValueError: if they are neither.
    """
    if isinstance(data, list | tuple):
        return True
    # The datasets library may not be installed, so its classes are recognized by their attributes.
    if hasattr(data, "column_names") and not isinstance(data, Mapping):
        if not hasattr(data, "__len__"):
            raise ValueError(f"{name} is a stream; a run must know its examples beforehand")
        return True
    if data is None or isinstance(data, Mapping) or not hasattr(type(data), "references"):
        raise ValueError(
            f"{name} is {'missing' if data is None else 'a ' + type(data).__name__}; it must be a "
            "Dataset of the datasets library, a list of rows, or Examples of a task"
        )
    return False


def make_codec(
    tokenizer: PreTrainedTokenizerBase, model: nn.Module, parts: Mapping[str, Any]
) -> TextCodec:
    """Build the codec of a tokenizer; outputs may be 1.5 times as long as the longest target.

    Args:
        tokenizer: the tokenizer.
        model: the model.
        parts: the data by their names; the last may be None.

    Raises:
        DataError: if a row cannot be used.
        ValueError: if the configuration of an encoder-decoder does not name its start token.
    """
    config: Any = model.config
    start = config.decoder_start_token_id if config.is_encoder_decoder else None
    if config.is_encoder_decoder and start is None:
        raise ValueError("config.decoder_start_token_id of the model is missing")
    causal = start is None
    codec, longest = TextCodec(tokenizer, limit=UNBOUNDED, bos=start, continues=causal), 1
    for name, part in parts.items():
        if name == "eval_dataset" and part is None:
            continue
        if are_rows(part, name) and len(part):
            kind = find_kind(part[0], name)
            codec = replace(codec, column="prompt" if kind == "input_ids" else kind)
            part = codec.encode(part, name)
        if isinstance(part, TextExamples):
            longest = max(longest, part.longest[1])
        elif len(part):
            raise ValueError("Examples of a task come with a codec: pass it as processing_class")
    return replace(codec, limit=longest + longest // 2)
