"""Text to what comes after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from freerun.data import DataError, Splits
from freerun.data.prose import hold_out_end, read_paragraphs, read_text, split_paragraphs
from freerun.data.rows import Row
from freerun.data.splits import describe_sizes, subsample
from freerun.data.tokens import Tokens
from freerun.tasks.base import Recipe, Task


@dataclass(frozen=True)
class Continuation(Task):
    """Beginnings of paragraphs to their continuations.

    Paragraphs are separated by empty lines. The first `prompt` tokens are the prompt; the next
    ones, at most `length`, are the target, which ends in eos if the paragraph ends there.
    Paragraphs without more tokens than the prompt are left out. If test or dev is missing, it is a
    contiguous part at the end of the text, test last.

    The headline metric is MS-Jaccard: it needs no model, and is low both if outputs differ from
    such text and if they repeat themselves or each other. Diversity and entropy alone are highest
    for gibberish.

    Args:
        data: a text file, plain or gzipped; or a `datasets` folder or id with a column `text`.
        target_tokens: the tokens for a model without a tokenizer: characters+unk, where characters
            that occur once are unknown; words:N, bpe:N, bytes, or the path of a tokenizer.
        prompt: the number of tokens of a prompt.
        length: the maximum number of tokens of a target, eos included.
        whole: whether to train on whole paragraphs, in pieces of `length` tokens, instead of their
            beginnings only. Dev and test always have only the beginnings.
        train_size: the maximum number of paragraphs to train on, drawn by seed; by default all.
        dev_size: the maximum number of paragraphs in dev, at most a tenth of the text.
        test_size: the maximum number of paragraphs in test, likewise.
        seed: the seed of the split.
    """

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = "text to what comes after it (any text file)"
    metrics: ClassVar[tuple[str, ...]] = ("ms_jaccard", "entropy", "diversity", "repetition")
    cost: ClassVar[str] = "gleu"
    recipe: ClassVar[Recipe] = {
        "model": {"cell": "gru", "hidden_size": 256, "embedding_size": 64},
        "training": {
            "updates": 1_500,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }
    source_tokens: ClassVar[None] = None

    data: str
    target_tokens: str = "characters+unk"
    prompt: int = 32
    length: int = 64
    whole: bool = True
    train_size: int | None = None
    dev_size: int = 500
    test_size: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is wrong. The message names it.
        """
        self.check_sizes("prompt", "length", "train_size", "dev_size", "test_size")
        Tokens.parse(self.target_tokens)

    @property
    def codec_options(self) -> dict[str, Any]:
        """The settings by which paragraphs, and prompts to predict from, are cut."""
        cut = {"max_prompt": self.prompt, "truncation": "start"}
        return {"context": self.prompt, "block": self.length, **cut}

    def rows(self) -> Splits[Row]:
        """Read and split the paragraphs.

        Raises:
            DataError: names the file, and what is expected.
            MissingExtraError: if a library is not installed.
        """
        parts, notes = read_paragraphs(self.data)
        total = len(parts["train"])
        notes += hold_out_end(parts, {"dev": self.dev_size, "test": self.test_size})
        if not all(parts.values()):
            raise DataError(
                f"{self.data}: {total} paragraphs are too few to split; paragraphs have an empty "
                "line between them"
            )
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        notes += subsample(parts, sizes, self.seed, "text", "paragraphs")
        notes.append(describe_sizes(parts, "paragraphs"))
        rows = {name: _beginnings(part) for name, part in parts.items()}
        if self.whole:
            rows["train"] = [{"text": text} for text in parts["train"]]
        return Splits(rows, notes)

    def read_examples(self, path: str) -> list[Row]:
        """Read the beginnings of the paragraphs of another text file.

        Raises:
            DataError: names the file, and what is expected.
        """
        return _beginnings(split_paragraphs(read_text(path)[0]))


def _beginnings(texts: Sequence[str]) -> list[Row]:
    return [{"text": text, "blocks": 1} for text in texts]
