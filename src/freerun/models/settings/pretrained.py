"""The settings of pretrained models, and the kinds of models by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from transformers import PreTrainedTokenizerBase

from freerun.data import Codec, Data, DataError, MediaCodec
from freerun.data.codec import CODEC_FILE
from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.models.adapters import add_lora
from freerun.models.backspace import extend_model, with_backspace
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.models.huggingface.probe import check_dropout
from freerun.models.loading import (
    check_finite,
    convert_weights,
    find_base_path,
    find_start,
    load_config,
    load_model,
    load_pretrained_tokenizer,
    loading_errors,
)
from freerun.models.recurrent import RecurrentConfig, RecurrentPolicy
from freerun.models.settings.base import (
    ModelSettings,
    TrainingDefaults,
    describe_difference,
    match_backspace,
)
from freerun.models.settings.scratch import (
    CausalSettings,
    RecurrentSettings,
    Seq2SeqSettings,
    check_text,
)
from freerun.settings import SettingError, build, did_you_mean
from freerun.tasks import load_codec, load_data
from freerun.tasks.base import Task
from freerun.tasks.loading import list_own_tokens
from freerun.tasks.media import MediaTask


@dataclass(frozen=True, kw_only=True)
class PretrainedSettings(ModelSettings):
    """A pretrained model: a causal model or an encoder-decoder, or a model trained by freerun.

    It keeps its tokens: those of its tokenizer, or those of the task that it was trained on.
    Weights are read from safetensors only. Its generation config is ignored.

    Args:
        path: the directory of a model or of adapters, or its id on the Hugging Face hub.
        lora: train adapters of this rank in all linear layers but the last, scaled by 2, and freeze
            all other weights (Hu et al. 2021, arXiv 2106.09685); by default all weights are
            trained.
        dropout: the dropout probability, everywhere in the architecture; by default that of the
            model.
        dtype: the dtype in which weights are trained and saved, whatever they are stored in: often
            updates are too small for float16 and bfloat16, which take half the memory.

    Raises:
        ValueError: if a setting is out of range.
    """

    kind: ClassVar[str] = "pretrained"
    training: ClassVar[dict[str, Any]] = {
        "optimizer": "adamw",
        "learning_rate": None,
        "updates": None,
        "evaluate_every": None,
        "batch_size": 16,
    }

    path: str
    lora: int | None = None
    dropout: float | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        """Check the ranges of settings."""
        if self.lora is not None and self.lora < 1:
            raise ValueError(f"lora is {self.lora}; it must be at least 1")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")

    @property
    def defaults(self) -> TrainingDefaults:
        """Few epochs, at a rate that does not destroy what was learned before."""
        if self.lora is not None or Path(self.path, "adapter_config.json").exists():
            return TrainingDefaults("adapters", 5, 100, 2e-4)
        return TrainingDefaults("pretrained models", 5, 100, 5e-5)

    @property
    def reads_rows_at_once(self) -> bool:
        """Whether it is a Transformer."""
        recurrent = self.trained_by_freerun and isinstance(load_config(self.path), RecurrentConfig)
        return not recurrent

    @property
    def trained_by_freerun(self) -> bool:
        """Whether the model was trained by freerun; its codec is then saved with it."""
        return Path(self.path, CODEC_FILE).exists()

    def complete_task(self, task: Task) -> tuple[Task, list[str]]:
        """Return the task unchanged, as the model has tokens."""
        return task, []

    def load(self, task: Task) -> Data:
        """Load the data of a task, in the tokens of the model.

        Raises:
            CheckpointError: if there is no such model, or it has no tokenizer.
            DataError: if the data cannot be used, or the task is not text.
        """
        if self.trained_by_freerun:
            check_digests(self.path)
            try:
                codec = load_codec(self.path)
            except DataError:  # a codec of a user; `build` reports damage
                return load_data(task)
            data = load_data(task, codec)
            if own := list_own_tokens(task):
                verb = "have" if len(own) > 1 else "has"
                names = " and ".join(own)
                note = f"{names} {verb} no effect: the tokens are those of {self.path}"
                data = replace(data, notes=[*data.notes, note])
            return data
        if not isinstance(task, MediaTask):
            tokenizer, start = self.load_tokenizer()
            return load_data(task, tokenizer=tokenizer, start=start)
        return load_data(task, self.make_media_codec(task))

    def make_media_codec(self, task: MediaTask) -> MediaCodec:
        """Return the codec of images or sounds of a model that freerun did not train.

        Raises:
            CheckpointError: if there is no such model, or it has no tokenizer.
            DataError: if the model does not read them, or a setting has no effect on it.
        """
        tokenizer, start = self.load_tokenizer()
        if start is None:
            raise DataError(
                f"{self.path}: it reads text, and the task {task.name} has {task.media}"
            )
        base, _ = find_base_path(self.path)
        return task.make_codec(base, tokenizer, start)

    def load_tokenizer(self) -> tuple[PreTrainedTokenizerBase, int | None]:
        """Load the tokenizer of the model.

        Returns:
            The tokenizer, and the token that the decoder of an encoder-decoder starts with; None
            for a causal model.

        Raises:
            CheckpointError: if there is no such model, or it has no tokenizer.
        """
        config = load_config(self.path)
        start = find_start(config, self.path) if config.is_encoder_decoder else None
        if config.is_encoder_decoder and start is None:
            raise CheckpointError(f"{self.path}: config.json names no decoder_start_token_id")
        return load_pretrained_tokenizer(self.path), start

    def build(self, codec: Codec) -> HuggingFacePolicy | RecurrentPolicy:
        """Load the model as a policy for a codec.

        The weights of new adapters are drawn from torch's global random generator. A backspace that
        the model lacks is added (see `add_backspace`).

        Raises:
            CheckpointError: if there is no such model, it cannot be read, or it reads and writes
                other tokens than those of the codec.
            MissingExtraError: if there are adapters, and peft is not installed.
            ValueError: if the model cannot be a policy, or a setting has no effect on it.
        """
        target, known = codec.target, None
        if self.trained_by_freerun:
            known = self._read_codec(codec)
        elif not codec.shared:
            raise CheckpointError(
                f"{self.path}: it reads and writes the tokens of its tokenizer, which the data are "
                "not in; read them by PretrainedSettings.load"
            )
        config = load_config(self.path)
        if isinstance(config, RecurrentConfig):
            if self.lora is not None:
                raise ValueError(f"lora has no effect on {self.path}: it is a recurrent model")
            changes = {} if self.dropout is None else {"dropout": self.dropout}
            with loading_errors(self.path):
                own = RecurrentPolicy.from_pretrained(self.path, limit=codec.limit, **changes)
            check_finite(own.state_dict(), self.path)
            convert_weights(own, getattr(torch, self.dtype))
            return with_backspace(own, codec) if target.backspace is not None else own
        limit = check_text(codec, "seq2seq" if config.is_encoder_decoder else "causal")
        if isinstance(codec, MediaCodec) and not config.is_encoder_decoder:
            raise ValueError(f"{self.path} reads text, and the data have {codec.media}")
        dtype = getattr(torch, self.dtype)
        model = load_model(self.path, codec=known, dtype=dtype, dropout=self.dropout)
        new = self._find_new_backspace(codec, known)
        if new is not None:
            model = extend_model(model, target, shared=codec.shared)
        if self.lora is not None:
            if find_base_path(self.path)[1]:
                raise ValueError(
                    f"{self.path} holds adapters, which are trained on; leave lora out"
                )
            model = add_lora(model, self.lora, new)
        policy = adapt(model, codec.target, limit=limit, shared=codec.shared, prefix=codec.prefix)
        if self.dropout is not None:
            check_dropout(policy, self.dropout)
        return policy

    def _read_codec(self, codec: Codec) -> Codec:
        """Read the codec of the model, and check that it equals `codec`, except for a backspace.

        Raises:
            CheckpointError: if it differs, or none is saved with the model.
        """
        check_digests(self.path)
        try:
            found = type(codec).from_pretrained(self.path)
        except DataError as error:
            raise CheckpointError(str(error)) from None
        difference = describe_difference(match_backspace(found, codec), codec)
        if difference is not None:
            raise CheckpointError(f"{self.path}: it does not match the task: {difference}")
        return found

    def _find_new_backspace(self, codec: Codec, known: Codec | None) -> int | None:
        """Return the backspace of a codec if the model has none."""
        if codec.target.backspace is None:
            return None
        if known is not None:
            there = known.target.backspace
        else:
            there = getattr(load_pretrained_tokenizer(self.path), "backspace_token_id", None)
        return codec.target.backspace if there is None else None


SCRATCH: dict[str, type[ModelSettings]] = {
    cls.kind: cls for cls in (RecurrentSettings, CausalSettings, Seq2SeqSettings)
}
"""The kinds that can be trained from scratch."""

KINDS: dict[str, type[ModelSettings]] = {**SCRATCH, PretrainedSettings.kind: PretrainedSettings}
"""All kinds."""


def find_model_kind(model: str) -> type[ModelSettings]:
    """Find the class of settings for a kind of model to train from scratch, or for a path or id.

    Raises:
        SettingError: if it is probably a misspelled kind.
    """
    if model == PretrainedSettings.kind:
        raise SettingError("a pretrained model is named by its directory or its id on the hub")
    near = difflib.get_close_matches(model.lower(), SCRATCH, n=1, cutoff=0.75)
    if model not in SCRATCH and near and "/" not in model and not Path(model).exists():
        raise SettingError(f"unknown kind of model {model!r}; did you mean {near[0]!r}?")
    return SCRATCH.get(model, PretrainedSettings)


def build_from_record(record: Mapping[str, Any]) -> ModelSettings:
    """Build settings from a record (see `ModelSettings.record`).

    Raises:
        SettingError: if the kind or a setting is unknown, or a value is wrong.
    """
    values = dict(record)
    kind = values.pop("kind", RecurrentSettings.kind)
    if kind not in KINDS:
        raise SettingError(f"unknown kind of model {kind!r}{did_you_mean(str(kind), KINDS)}")
    return build(KINDS[kind], values, "model")
