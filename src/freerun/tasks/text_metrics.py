"""MAUVE: how far texts of a model and of people are apart, in the eyes of another model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from freerun.data import DataError, TextCodec
from freerun.data.codec import CODEC_FILE
from freerun.data.extras import extra
from freerun.metrics import diversity, entropy, repetition
from freerun.tasks.continuation_codec import ContinuationCodec


def own_metrics(rows: Sequence[Sequence[int]]) -> dict[str, float]:
    """What texts are like by themselves: `entropy`, `diversity` and `repetition`."""
    return {"entropy": entropy(rows), "diversity": diversity(rows), "repetition": repetition(rows)}


States = Literal["mean", "last"]
BATCH = 64
"""Texts that the model reads together."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A causal model that reads texts.

    Args:
        path: where it is.
        model: the model.
        encode: from a text to tokens.
    """

    path: str
    model: Any
    encode: Callable[[str], list[int]]

    @torch.no_grad()
    def features(self, texts: Sequence[str], states: States) -> Float[Tensor, "n h"]:
        """What the last layer makes of texts: the state at their last token, or the mean of all.

        Raises:
            DataError: where a text has no tokens, or more than the model has positions.
        """
        rows = [self.encode(text) for text in texts]
        most = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, rows))
        if most is not None and longest > most:
            raise DataError(
                f"{self.path}: a text has {longest} tokens, but the model has {most} positions"
            )
        if not all(rows):
            raise DataError(f"{self.path}: a text has no tokens to read")
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[tuple[int, Tensor]] = []
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            found += zip(numbers, self._batch([rows[i] for i in numbers], states), strict=True)
        return torch.stack([row for _, row in sorted(found, key=lambda pair: pair[0])])

    def _batch(self, rows: Sequence[Sequence[int]], states: States) -> Float[Tensor, "n h"]:
        lengths = torch.tensor([len(row) for row in rows], device=self.model.device)
        cells = torch.arange(int(lengths.max()), device=self.model.device)
        mask = cells < lengths[:, None]
        tokens = torch.zeros_like(mask, dtype=torch.int64)
        tokens[mask] = torch.tensor([t for row in rows for t in row], device=self.model.device)
        inner = self.model.base_model
        read = inner(input_ids=tokens, attention_mask=mask.long(), use_cache=False)
        hidden = read.last_hidden_state.float()
        if states == "last":
            return hidden[torch.arange(len(rows), device=hidden.device), lengths - 1].cpu()
        return ((hidden * mask[..., None]).sum(1) / lengths[:, None]).cpu()


@dataclass(frozen=True)
class Mauve:
    """MAUVE (Pillutla et al. 2021, arXiv 2102.01454), by the library mauve-text.

    Both sides are texts with their prompts, as features of a model; these are clustered, and MAUVE
    is the area under the curve of divergences between the shares of the clusters.

    Args:
        path: a directory with a causal model in safetensors, or its id on the Hugging Face hub.
        states: which hidden states of the last layer are the features of a text: that of its
            `last` token, or the `mean` of all.

    Raises:
        MissingExtraError: where `mauve-text` is not installed.
        DataError: where there is no such model.
    """

    path: str
    states: States

    def __post_init__(self) -> None:
        """See that all is there."""
        _library()
        reader_of(self.path)

    def score(self, texts: Sequence[str], references: Sequence[str]) -> float:
        """MAUVE of texts against as many references, in [0, 1]; 1 where they cannot be told apart.

        Raises:
            DataError: where there are fewer than two, or the model cannot read one.
        """
        if len(texts) < 2:
            raise DataError("MAUVE compares distributions of texts: it needs two outputs at least")
        sides = [reader_of(self.path).features(s, self.states).numpy() for s in (references, texts)]
        library = _library()
        # Texts that are all alike have no variance to divide by, which does no harm.
        with _hushed(), np.errstate(invalid="ignore"):
            return float(library.compute_mauve(*sides, verbose=False).mauve)

    @property
    def signature(self) -> str:
        """What the figure depends on."""
        states = {"last": "last state", "mean": "mean of states"}[self.states]
        return f"MAUVE|features:{self.path}, {states}|mauve-text:{version('mauve-text')}"


@lru_cache(maxsize=1)
def reader_of(path: str) -> Reader:
    """The causal model at `path`, and how it reads text: by its tokenizer, or as freerun's own.

    Raises:
        DataError: where there is none, it is no causal model, or it does not read text.
    """
    if Path(path).exists() and not Path(path, "config.json").exists():
        raise DataError(f"{path}: there is no config.json in it; name the folder of a causal model")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if AutoConfig.from_pretrained(path, trust_remote_code=False).is_encoder_decoder:
            raise DataError(f"{path}: it is an encoder-decoder; MAUVE needs a causal model")
        model = AutoModelForCausalLM.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True
        )
        encode = _encoder(path)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).strip().splitlines()[0]
        if "freerun_recurrent" in reason:
            reason = "it is a recurrent model"
        raise DataError(f"{path}: no causal model to read texts with ({reason})") from None
    finally:
        logging.set_verbosity(verbosity)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Reader(path, model.to(device).eval(), encode)


def _encoder(path: str) -> Callable[[str], list[int]]:
    if Path(path, CODEC_FILE).exists():
        contents = json.loads(Path(path, CODEC_FILE).read_text(encoding="utf-8"))
        if contents.get("task") == ContinuationCodec.task:
            return cast(ContinuationCodec, ContinuationCodec.from_pretrained(path)).encode
        if contents.get("kind") != TextCodec.kind or contents.get("source"):
            raise DataError(f"{path}: it reads no running text")
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    return lambda text: list(tokenizer(text, verbose=False)["input_ids"])


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep back what faiss prints of itself: that there are few texts for as many clusters.

    How many there are is the rule of MAUVE, a tenth of the texts.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _library() -> Any:
    return extra("mauve", "text", "MAUVE")
