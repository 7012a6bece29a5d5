"""Text to what comes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from freerun.data import Codec, Data, DataError, Examples, Splits, TextCodec
from freerun.data.pieces import BYTES, check_left_out
from freerun.data.prose import (
    divide,
    long_enough,
    paragraphs,
    pieces,
    read_paragraphs,
    read_text,
)
from freerun.data.splits import cut
from freerun.data.store import Stored, Tokens
from freerun.metrics import ms_jaccard
from freerun.randomness import permutation
from freerun.tasks.base import Task
from freerun.tasks.continuation_codec import ContinuationCodec
from freerun.tasks.text_metrics import Mauve, States, own_metrics

SIZE = 1_000
"""How many byte-pair tokens there are at most, where no size is given."""

OWN_TOKENS = ("tokens", "size")
"""Settings of the tokens that are learnt from the data."""


@dataclass(frozen=True)
class Continuation(Task):
    """Beginnings of paragraphs, and how these go on.

    A paragraph is what stands between empty lines. Its first `prompt` tokens are the prompt, those
    that follow, at most `length`, the target, which ends in eos where the paragraph does. Where
    test or dev is missing, it is the end of the text, or what stands before that, in one stretch.

    The headline metric is MS-Jaccard (see `text_metrics.ms_jaccard`): it needs no model, and falls
    both where outputs are no such text and where they repeat themselves or each other. Diversity
    and entropy alone are highest for gibberish.

    Args:
        data: a text file, plain or gzipped; or a `datasets` folder or id with a column `text`.
        tokens: characters, or byte-pair tokens that are learnt from the text (bpe).
        size: the most byte-pair tokens; left out, 1000.
        prompt: the tokens of a prompt; for models with a tokenizer, at most, at the end of as many
            words.
        length: the most tokens of a target, eos included; outputs are compared with it up to there.
        whole: whether all of a paragraph is trained on, in pieces that begin every `length` tokens;
            else its beginning alone, which dev and test always have.
        train_size: the most paragraphs to train on, drawn by seed; left out, all.
        dev_size: the most paragraphs of dev, and at most a tenth of the text.
        test_size: the most paragraphs of test, likewise.
        features: a causal model, by its directory or its id on the Hugging Face hub, on whose
            hidden states MAUVE is computed; left out, MAUVE is not reported.
        states: what is taken of a text: the mean of its states, or the last one; left out, the
            mean.
        seed: the seed of what is drawn.
    """

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = "text to what comes after it (any text file)"
    metric: ClassVar[str] = "ms_jaccard"
    greater_is_better: ClassVar[bool] = True
    cost: ClassVar[str] = "gleu"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {"cell": "gru", "hidden_size": 256, "embedding_size": 64},
        "training": {
            "updates": 1_500,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    data: str
    tokens: Literal["characters", "bpe"] = "characters"
    size: int | None = None
    prompt: int = 32
    length: int = 64
    whole: bool = True
    train_size: int | None = None
    dev_size: int = 500
    test_size: int = 1_000
    features: str | None = None
    states: States | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: naming the setting that is out of range or has no effect.
        """
        for name in ("prompt", "length", "train_size", "dev_size", "test_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.size is not None and self.tokens != "bpe":
            raise ValueError(f"size has no effect on {self.tokens}; set tokens to bpe")
        if self.size is not None and self.size <= BYTES:
            raise ValueError(f"size is {self.size}; it must be at least {BYTES + 1}")
        if self.states is not None and self.features is None:
            raise ValueError("states has no effect without features")

    def load(self) -> Data:
        """Read and split the text.

        Raises:
            DataError: naming the file and what would be right.
            MissingExtraError: where a library is not installed.
        """
        self._mauve()
        texts, notes = self._texts()
        codec = ContinuationCodec.learn(
            texts["train"],
            tokens=self.tokens,
            size=self.size or SIZE,
            prompt=self.prompt,
            length=self.length,
        )
        parts = {name: [codec.encode(text) for text in part] for name, part in texts.items()}
        notes += self._kept(parts, codec.plural)
        train = codec.examples(parts["train"], whole=self.whole)
        dev, test = codec.examples(parts["dev"]), codec.examples(parts["test"])
        notes += [f"train has {len(train)} pieces"] if self.whole else []
        return Data(train, dev, test, codec, [*notes, codec.note(parts["test"]), _level(test)])

    def texts(self) -> Splits[tuple[str, str]]:
        """The prompts of every split, in words, and all that comes after them in their paragraphs.

        Raises:
            DataError: naming the file and what would be right; also where a setting of the task's
                own tokens is given.
            MissingExtraError: where a library is not installed.
        """
        check_left_out(self, OWN_TOKENS)
        self._mauve()
        texts, notes = self._texts()
        parts = {name: [text.split() for text in part] for name, part in texts.items()}
        notes += self._kept(parts, "words")
        whole = {"train": self.whole}
        return Splits(
            {k: self._pairs(part, whole.get(k, False)) for k, part in parts.items()}, notes
        )

    def rows(self) -> Splits[Mapping[str, Any]]:
        """The same in the columns prompt and completion.

        Raises:
            DataError: as `texts` does.
        """
        texts = self.texts()
        return Splits({name: map(_row, part) for name, part in texts.items()}, texts.notes)

    def reading(self) -> dict[str, Any]:
        """How many tokens are read and written; all that is longer is cut off, without eos."""
        return {"max_prompt": self.prompt, "max_completion": self.length, "truncation": "start"}

    def evaluation(self, codec: Codec, path: str) -> Examples:
        """The beginnings of the paragraphs of another text file.

        Raises:
            DataError: naming the file and what would be right.
        """
        if not isinstance(codec, TextCodec):
            return codec.evaluation(path)
        words = [text.split() for text in paragraphs(read_text(path)[0])]
        pairs = self._pairs([row for row in words if len(row) > self.prompt], False)
        if not pairs:
            raise DataError(
                f"{path}: no paragraph has more than {self.prompt} words, the length of a prompt"
            )
        return codec.encode(map(_row, pairs), path)

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """MS-Jaccard, entropy, diversity and repetition (see `text_metrics`), and MAUVE.

        Outputs count up to `length` tokens, as targets do. MAUVE is left out where no model is
        named to compute it with.

        Raises:
            MissingExtraError: where a library is not installed.
            DataError: where the features of MAUVE cannot be computed.
        """
        unknown = codec.target.unknown
        written = [list(row[: self.length]) for row in hypotheses]
        wanted = [[-1 if t == unknown else t for t in row] for row in examples.references]
        scores = {"ms_jaccard": ms_jaccard(written, wanted), **own_metrics(written)}
        mauve = self._mauve()
        if mauve is None:
            return scores
        prompts = Tokens(cast(Stored, examples).sources)
        decode = codec.decode if isinstance(codec, TextCodec) else codec.text
        sides = (
            [decode([*prompt, *row]) for prompt, row in zip(prompts, rows, strict=True)]
            for rows in (written, examples.references)
        )
        return {**scores, "mauve": mauve.score(*sides)}

    def signatures(self) -> dict[str, str]:
        """What MAUVE depends on."""
        mauve = self._mauve()
        return {} if mauve is None else {"mauve": mauve.signature}

    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every token of the reference, whether the output has another one there, or has ended.

        Without an alignment: it tells how soon an output leaves the text that it could have been,
        not how bad it is.
        """
        there = [*hypothesis[: len(reference)], *[None] * (len(reference) - len(hypothesis))]
        return [token != right for token, right in zip(there, reference, strict=True)]

    def majority(self, data: Data) -> dict[str, float]:
        """The metrics on the test set of text that never looks at its prompt.

        It is real text: the targets of training, drawn by seed. So it shows what can be reached by
        text that is right but for its prompt.
        """
        targets, count = data.train.references, len(data.test)
        drawn = permutation(len(targets), self.seed, "text majority").tolist()
        outputs = [targets[drawn[i % len(drawn)]] for i in range(count)]
        return self.score(data.codec, outputs, data.test)

    def _texts(self) -> tuple[dict[str, list[str]], list[str]]:
        """The paragraphs of every split, and notes on them."""
        parts, notes = read_paragraphs(self.data)
        notes += divide(parts, {"dev": self.dev_size, "test": self.test_size})
        return parts, notes

    def _kept(self, parts: dict[str, list[Any]], what: str) -> list[str]:
        """Leave out paragraphs that are too short or too many; notes on that."""
        notes = long_enough(parts, self.prompt, what, self.data)
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        notes += cut(parts, sizes, self.seed, "text", "paragraphs")
        return [*notes, ", ".join(f"{name} {len(parts[name])}" for name in sizes) + " paragraphs"]

    def _pairs(self, rows: Sequence[Sequence[str]], whole: bool) -> list[tuple[str, str]]:
        """Prompts and what follows them, from the words of paragraphs."""
        return [
            (" ".join(prompt), " ".join(["", *rest]))
            for row in rows
            for prompt, rest in pieces(row, self.prompt, self.length, whole=whole)
        ]

    def _mauve(self) -> Mauve | None:
        return None if self.features is None else Mauve(self.features, self.states or "mean")


def _row(pair: tuple[str, str]) -> dict[str, str]:
    return {"prompt": pair[0], "completion": pair[1]}


def _level(examples: Stored) -> str:
    """A note on what people's texts score, to compare a model's with."""
    found = own_metrics(list(examples.references))
    return (
        f"the targets of test themselves have entropy {found['entropy']:.2f}, diversity "
        f"{found['diversity']:.1%}, repetition {found['repetition']:.1%}"
    )
