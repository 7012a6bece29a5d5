"""Load models from their folders as policies, whether or not freerun trained them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freerun.data import Codec, DataError, TextCodec, WritingCodec
from freerun.digests import check_digests
from freerun.errors import CheckpointError
from freerun.models.settings import PretrainedSettings
from freerun.policy import Policy


def build_policy(settings: PretrainedSettings, codec: Codec) -> Policy:
    """Load a model as a policy in evaluation mode.

    Raises:
        CheckpointError: if there is no such model, it cannot be read, or it has other tokens.
    """
    try:
        return settings.build(codec).eval()
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{settings.path}: {error}") from None


def load_matching(folder: str, codec: Codec) -> Policy:
    """Load a model that reads and writes the tokens of another one, such as a teacher or an oracle.

    Args:
        folder: the folder of a model that freerun trained, or of any Hugging Face model.
        codec: the codec of the other model.

    Raises:
        CheckpointError: if there is no such model, it cannot be read, or it has other tokens.
    """
    if not Path(folder).is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    settings = PretrainedSettings(path=folder)
    if settings.trained_by_freerun:
        own = read_codec(Path(folder), type(codec))
        tokenizer = own.tokenizer if isinstance(own, WritingCodec) else None
        alike = _describe_sources(own) == _describe_sources(codec)
    else:
        tokenizer, start = settings.load_tokenizer()
        alike = codec.shared and (start is None or start == codec.target.bos)
    words = codec.tokenizer.get_vocab() if isinstance(codec, WritingCodec) else None
    if words is not None and tokenizer is not None and tokenizer.get_vocab() != words:
        raise CheckpointError(
            f"{folder}: its tokenizer has other tokens than the model; it must have the same"
        )
    if not alike:
        raise CheckpointError(f"{folder}: it reads sources in another way than the model")
    return build_policy(settings, codec)


def _describe_sources(codec: Codec) -> tuple[Any, ...]:
    own = codec.source.get_vocab() if isinstance(codec, TextCodec) and codec.source else None
    return codec.shared, codec.prefix, own


def read_codec(folder: Path, cls: type[Codec]) -> Codec:
    """Read the codec of a model that freerun trained.

    Raises:
        CheckpointError: if it cannot be read, or is of another class.
    """
    check_digests(folder)
    try:
        return cls.from_pretrained(str(folder))
    except DataError as error:
        raise CheckpointError(str(error)) from None
