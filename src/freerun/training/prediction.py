"""Predict with a trained model: outputs with their log-probabilities, in batches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice, starmap
from pathlib import Path
from typing import Any

from freerun.batch import Batch
from freerun.data import Codec, MediaCodec
from freerun.data.files import Line
from freerun.data.media_codec import is_row
from freerun.data.rows import Row
from freerun.decoding import beam_search_n_best
from freerun.errors import DataError
from freerun.evaluation import GREEDY, Decoding, decode, on_device
from freerun.policy import Policy
from freerun.settings import SettingError, build
from freerun.tasks import Task
from freerun.tasks.media import MediaTask
from freerun.training.checks import check_model_decoding
from freerun.training.sources import reads_lines, stream_batches
from freerun.training.tasks import find_source_task, load_predictor

Text = Any
"""A source: text, or a row with the columns that the model was trained on.

For models of images or speech, it is the path of a file, an image of pillow, or samples (see
`freerun.data.media.Processor.read`); for models of tagging and of images in numbers, the lines that
a file has for it.
"""


@dataclass(frozen=True)
class Prediction:
    """An output of a model.

    Attributes:
        text: its text.
        log_prob: the sum of the log-probabilities of its tokens, eos included, under the
            distribution that they were chosen from.
        score: what the hypotheses of a beam are ranked by (see `Decoding`); otherwise `log_prob`.
        complete: whether it ended by itself; otherwise it was cut off at the maximum length.
        tokens: its tokens, without eos.
    """

    text: str
    log_prob: float
    score: float
    complete: bool
    tokens: list[int] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return text, log-probability, score, number of tokens, and whether it is complete."""
        return {
            "text": self.text,
            "log_prob": self.log_prob,
            "score": self.score,
            "tokens": len(self.tokens),
            "complete": self.complete,
        }


class Model:
    """A trained model that predicts from texts.

    Args:
        policy: the model.
        codec: what it reads and writes.
        task: the task that it was trained on, which reads sources; by default the codec does.
    """

    def __init__(self, policy: Policy, codec: Codec, task: Task | None = None) -> None:
        self.policy, self.codec, self.task = policy, codec, task

    def predict(
        self, texts: Iterable[Text], *, n_best: int | None = None, **settings: Any
    ) -> list[Any]:
        """Return a `Prediction` for each text; with `n_best`, a list of them, best first.

        Args:
            texts: the sources.
            n_best: the number of outputs of each, which needs `beam` or `sample`.
            settings: `batch_size`, and settings of `freerun.evaluation.Decoding` such as `beam`.

        Raises:
            DataError: if a source cannot be read.
            SettingError: if a setting is unknown or out of range.
        """
        found = self.stream(texts, n_best=n_best or 1, **settings)
        return [row if n_best else row[0] for row in found]

    def stream(
        self, texts: Iterable[Text], *, n_best: int = 1, batch_size: int = 64, **settings: Any
    ) -> Iterator[list[Prediction]]:
        """Yield the outputs for each text; no more texts than a batch are read ahead.

        Args:
            texts: see `predict`.
            n_best: see `predict`.
            batch_size: the number of texts that are decoded together.
            settings: see `predict`.

        Raises:
            DataError: see `predict`.
            SettingError: see `predict`.
        """
        if isinstance(texts, str):
            raise SettingError("texts is a str; it must be a list of sources")
        decoding = build(Decoding, settings, "decoding")
        check_n_best(n_best, decoding)
        for batch in self._stream_batches(texts, decoding, batch_size):
            yield from predict_batch(self.policy, self.codec, batch, decoding, n_best)

    def _stream_batches(
        self, texts: Iterable[Text], decoding: Decoding, size: int
    ) -> Iterator[Batch]:
        """Yield batches of sources, with their numbers from the beginning as ids."""
        if not isinstance(self.codec, MediaCodec):
            lines = chain.from_iterable(starmap(self._lines, enumerate(texts, 1)))
            read = self.policy, self.codec, self.task, lines, "the texts"
            yield from (batch for batch, _ in stream_batches(*read, decoding, size))
            return
        numbered = enumerate(texts)
        while block := [*islice(numbered, size)]:
            rows = [self._name_source(self.codec, each, f"source {i + 1:,}") for i, each in block]
            sources = self.codec.encode_sources(rows)
            (first, _), *_ = block
            if not first:
                check_model_decoding(self.policy, sources, decoding)
            batch = sources.batch(range(len(sources)))
            yield replace(batch, ids=batch.ids + first)

    def _name_source(self, codec: MediaCodec, value: Text, where: str) -> Row:
        """Return the row of an image or a sound."""
        if isinstance(self.task, MediaTask) and is_row(value):
            value = self.task.choose_source(value, where)
        return codec.name_source(value, where)

    def __call__(self, texts: str | Iterable[Text], **settings: Any) -> list[Any]:
        """Predict as a `pipeline` of transformers does: outputs have a `generated_text`."""
        alone = isinstance(texts, str)
        found = self.stream([texts] if isinstance(texts, str) else texts, **settings)
        rows = [[{"generated_text": each.text, "score": each.score} for each in r] for r in found]
        return rows[0] if alone else rows

    def _lines(self, number: int, text: Text) -> list[Line]:
        """Return a source as the numbered lines of a file."""
        if reads_lines(self.codec):
            plain = text if isinstance(text, str) else json.dumps(dict(text), default=str)
            return [(number, plain)]
        where = f"the texts, example {number:,}"
        if not isinstance(text, str):
            raise DataError(f"{where}: it is a {type(text).__name__}; it must be text")
        lines = text.splitlines()
        if not all(line.strip() for line in lines) or not lines:
            raise DataError(f"{where}: it is empty, or has an empty line")
        return [(number, line) for line in (*lines, "")]


def load(
    directory: str | Path, *, max_new_tokens: int | None = None, language: str | None = None
) -> Model:
    """Load a model to predict with it.

    Args:
        directory: the folder of a run or of a checkpoint in it, or of any Hugging Face model.
        max_new_tokens: the maximum number of tokens of an output of a model that freerun did not
            train; by default 256.
        language: the language of sounds, for a multilingual Whisper that freerun did not train.

    Raises:
        CheckpointError: if there is no such model, or it cannot be read.
        DataError: if a multilingual model is given no language.
        SettingError: if freerun trained the model, which has a maximum length and a language.
        MissingExtraError: if it holds adapters, and peft is not installed.
    """
    policy, codec = load_predictor(str(directory), max_new_tokens, language)
    return Model(policy, codec, find_source_task(str(directory)))


def check_n_best(n_best: int, decoding: Decoding) -> None:
    """Check the number of outputs for each source.

    Raises:
        SettingError: if there cannot be as many.
    """
    if n_best < 1:
        raise SettingError(f"n_best is {n_best}; it must be at least 1")
    if n_best > 1 and not decoding.sample and decoding.beam < n_best:
        raise SettingError(
            f"n_best is {n_best}; it needs sample, or a beam of at least {n_best}, and beam is "
            f"{decoding.beam}"
        )


def predict_batch(
    policy: Policy, codec: Codec, batch: Batch, decoding: Decoding = GREEDY, n_best: int = 1
) -> list[list[Prediction]]:
    """Return the best outputs for each source of a batch, best first; samples as they are drawn.

    Args:
        policy: the model.
        codec: its codec.
        batch: the sources, whose ids determine what is drawn.
        decoding: how to decode.
        n_best: the number of outputs of each.

    Raises:
        SettingError: if there cannot be as many outputs.
        ValueError: if the policy does not support this decoding.
    """
    check_n_best(n_best, decoding)
    batch, eos = on_device(batch, policy), policy.vocabulary.eos

    def describe(tokens: list[int], ended: bool, log_prob: float, score: float) -> Prediction:
        kept = tokens[:-1] if eos is not None and tokens[-1:] == [eos] else tokens
        return Prediction(codec.normalize(codec.decode(kept)), log_prob, score, ended, kept)

    if decoding.beam > 1 and n_best > 1:
        penalty = decoding.length_penalty
        rows = beam_search_n_best(
            policy, batch.source, size=decoding.beam, count=n_best, length_penalty=penalty
        )
        return [[describe(h.tokens, h.ended, h.log_prob, h.score) for h in row] for row in rows]
    found: list[list[Prediction]] = [[] for _ in batch.ids]
    for number in range(n_best):
        each = replace(decoding, seed=decoding.seed + number) if number else decoding
        decoded = decode(policy, batch.source, each, ids=batch.ids)
        lengths, log_probs = decoded.lengths.tolist(), decoded.log_probs.tolist()
        written = zip(decoded.tokens.tolist(), lengths, decoded.ended.tolist(), strict=True)
        for row, (tokens, length, ended), log_prob in zip(found, written, log_probs, strict=True):
            score = log_prob
            if decoding.beam > 1:
                score /= max(length, 1) ** decoding.length_penalty
            row.append(describe(tokens[:length], ended, log_prob, score))
    return found
