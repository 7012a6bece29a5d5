"""MAUVE: a divergence between generated and human text, computed with the features of a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freerun.imports import import_extra
from freerun.metrics.base import metric

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor
    from transformers import PreTrainedModel

States = Literal["mean", "last"]
BATCH = 64
"""The number of texts that the model reads together."""


def _sign(references: Sequence[str], model: str, states: States = "mean") -> str:
    what = {"last": "last state", "mean": "mean of states"}[states]
    return f"MAUVE|features:{model}, {what}|mauve-text:{version('mauve-text')}"


def _library() -> ModuleType:
    return import_extra("mauve", "text", "the metric mauve")


def _check(model: str, states: States = "mean") -> None:
    load_reader(model)


@metric(form="passages", corpus=True, library=("mauve", "text"), sign=_sign, check=_check)
def mauve(
    outputs: Sequence[str], references: Sequence[str], *, model: str, states: States = "mean"
) -> float:
    """Compute MAUVE (Pillutla et al. 2021, arXiv 2102.01454) with the library mauve-text.

    Texts, with their prompts, are represented by features of a model. The features are clustered,
    and MAUVE is the area under the divergence curve of the two cluster distributions: in [0, 1],
    and 1 if outputs and references are indistinguishable. The library uses a tenth as many clusters
    as texts, so values for few texts are unreliable: four texts compared with themselves may have
    0.75. The authors use 5,000.

    Args:
        outputs: the outputs, preceded by their prompts.
        references: as many references, likewise.
        model: a directory with a causal model in safetensors, or its id on the Hugging Face hub.
        states: which hidden states of the last layer are the features of a text: that of its
            `last` token, or the `mean` of all.

    Raises:
        MissingExtraError: if mauve-text is not installed.
        DataError: if there is no such model, it cannot read a text, or there are fewer than two
            texts.
    """
    import numpy as np

    from freerun.data import DataError

    if len(outputs) < 2:
        raise DataError("MAUVE compares distributions of texts: it needs two outputs at least")
    reader = load_reader(model)
    sides = [reader.features(side, states).numpy() for side in (references, outputs)]
    # Equal texts have no variance to divide by, which is harmless.
    with _quiet_stderr(), np.errstate(invalid="ignore"):
        return float(_library().compute_mauve(*sides, verbose=False).mauve)


@dataclass(frozen=True, eq=False)
class Reader:
    """A causal model that computes features of texts.

    Args:
        path: the path or id of the model.
        model: the model.
        encode: encode(text), which returns token ids.
    """

    path: str
    model: PreTrainedModel
    encode: Callable[[str], list[int]]

    def features(self, texts: Sequence[str], states: States) -> Tensor:
        """Compute the features of texts from the last layer, Float[n h].

        Args:
            texts: the texts.
            states: the state at the last token of each, or the mean of all.

        Raises:
            DataError: if a text has no tokens, or more than the model has positions.
        """
        import torch

        from freerun.data import DataError

        rows = [self.encode(text) for text in texts]
        most = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, rows))
        if most is not None and longest > most:
            raise DataError(
                f"{self.path}: a text has {longest} tokens, but the model has {most} positions"
            )
        if not all(rows):
            raise DataError(f"{self.path}: a text has no tokens to read")
        # Texts of similar length are read together.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[tuple[int, Tensor]] = []
        with torch.no_grad():
            for start in range(0, len(order), BATCH):
                numbers = order[start : start + BATCH]
                found += zip(numbers, self._batch([rows[i] for i in numbers], states), strict=True)
        return torch.stack([row for _, row in sorted(found, key=lambda pair: pair[0])])

    def _batch(self, rows: Sequence[Sequence[int]], states: States) -> Tensor:
        import torch

        device = self.model.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        tokens = torch.zeros_like(mask, dtype=torch.int64)
        tokens[mask] = torch.tensor([token for row in rows for token in row], device=device)
        read = self.model.base_model(input_ids=tokens, attention_mask=mask.long(), use_cache=False)
        hidden = read.last_hidden_state.float()
        if states == "last":
            return hidden[torch.arange(len(rows), device=device), lengths - 1].cpu()
        return ((hidden * mask[..., None]).sum(1) / lengths[:, None]).cpu()


@lru_cache(maxsize=1)
def load_reader(path: str) -> Reader:
    """Load the causal model at `path`, and its tokenizer.

    Raises:
        DataError: if there is none, it is not a causal model, or it has no tokenizer.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from freerun.data import CODEC_FILE, DataError, load_codec

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
        if Path(path, CODEC_FILE).exists() and not load_codec(path).shared:
            raise DataError(f"{path}: its sources and targets differ in tokens; it reads no text")
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).strip().splitlines()[0]
        if "freerun_recurrent" in reason:
            reason = "it is a recurrent model"
        raise DataError(f"{path}: no causal model to read texts with ({reason})") from None
    finally:
        logging.set_verbosity(verbosity)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, verbose=False)["input_ids"])

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Reader(path, model.to(device).eval(), encode)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppress the warning of faiss that there are few texts for the number of clusters.

    MAUVE chooses that number, a tenth of the texts. The warning is printed by C++ code, so the file
    descriptor must be redirected instead of `sys.stderr`.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
