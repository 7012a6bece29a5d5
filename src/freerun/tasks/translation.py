"""Sentences to their translations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from freerun.data import Codec, Data, DataError, Examples, Splits, TextCodec, TextExamples
from freerun.data.extras import extra
from freerun.data.parallel import Columns, Pair, overlaps, read_parts, read_table, short
from freerun.data.pieces import BYTES, Words, check_left_out
from freerun.data.splits import complete, cut
from freerun.data.store import Ragged, Tokens
from freerun.metrics.sequences import aligned_errors
from freerun.tasks.base import Task
from freerun.tasks.scored import constant_majority
from freerun.tasks.translation_codec import UNMATCHED, TranslationCodec, Translations
from freerun.vocabulary import Vocabulary


class TranslationMetrics:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a corpus; the share of equal texts.

    Args:
        lower: whether capitals count as small letters.
        tokenised: whether words are what stands between spaces already; else BLEU tells them apart
            by the rules 13a.

    Raises:
        MissingExtraError: where `sacrebleu` is not installed.
    """

    def __init__(self, *, lower: bool, tokenised: bool) -> None:
        library = extra("sacrebleu.metrics", "translation", "BLEU")
        rules = "none" if tokenised else "13a"
        self.lower = lower
        self.metrics: dict[str, Any] = {
            "bleu": library.BLEU(lowercase=lower, tokenize=rules, force=tokenised),
            "chrf": library.CHRF(lowercase=lower),
        }

    def score(self, texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """`bleu` and `chrf`, in 0 … 100, and `exact_match`, in 0 … 1.

        Args:
            texts: the outputs.
            references: one reference for each.
        """
        scores = {
            name: float(metric.corpus_score(texts, [references]).score)
            for name, metric in self.metrics.items()
        }
        pairs = zip(map(self._plain, texts), map(self._plain, references), strict=True)
        equal = sum(text == reference for text, reference in pairs)
        return {**scores, "exact_match": equal / max(len(references), 1)}

    def signatures(self) -> dict[str, str]:
        """How sacrebleu computes each of its metrics, in its own words."""
        found = {}
        for name, metric in self.metrics.items():
            # It knows how many references there are only when it has seen some.
            score = metric.corpus_score(["a"], [["a"]])
            found[name] = f"{score.name}|{metric.get_signature()}"
        return found

    def _plain(self, text: str) -> str:
        """A text as it is compared: white space of any kind is one space."""
        plain = " ".join(text.split())
        return plain.lower() if self.lower else plain


OWN = 2_000
"""The most pairs of a dev or test set of our own, where no size is given."""

OWN_TOKENS = ("tokens", "source_size", "target_size")
"""Settings of the tokens that are learnt from the data."""


@dataclass(frozen=True)
class Translation(Task):
    """Sentences and their translations.

    Text is cut into words and punctuation marks, of which the commonest are known and all others
    are `<unk>`, which is never right; or into byte-pair tokens, of which any text can be made, each
    language in its own. Where dev or test is missing, it is taken out of train at random: all pairs
    with the same target stay in one split.

    Args:
        data: a file with a pair a line and tabs between columns, plain, gzipped or in a zip
            archive; or a `datasets` id or folder.
        source_column: the column of the source: its number, counted from 0, or its name, where the
            first line names the columns. Of a dataset, a language of the column `translation`, or a
            column.
        target_column: that of the target, likewise.
        subset: the part of a dataset that has several, such as de-en.
        train_source: instead of `data`, the sources to train on, a line each.
        train_target: their translations, line by line.
        dev_source: the sources to choose settings and checkpoints by, beside train_source.
        dev_target: their translations.
        test_source: the sources to report on, beside train_source.
        test_target: their translations.
        tokens: words, or byte-pair tokens (bpe).
        lower: whether all is read and written in lower case, and scored so.
        tokenised: whether words are what stands between spaces already, punctuation marks too.
        source_size: the most words or tokens of the source; the commonest are kept.
        target_size: those of the target.
        length: the most words and punctuation marks on either side of a pair to train on; longer
            pairs are left out.
        train_size: the most pairs to train on, drawn by seed; left out, all.
        dev_size: the most pairs of dev; left out, all where they are given, else a tenth of all,
            2000 at most.
        test_size: the most pairs of test, likewise.
        seed: the seed of the split, and of what is drawn.
    """

    name: ClassVar[str] = "translation"
    summary: ClassVar[str] = "sentences to their translations (parallel text)"
    metric: ClassVar[str] = "bleu"
    greater_is_better: ClassVar[bool] = True
    cost: ClassVar[str] = "bleu"
    recipe: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "model": {
            "cell": "gru",
            "hidden_size": 256,
            "embedding_size": 128,
            "bidirectional": True,
            "attention": "additive",
            "dropout": 0.1,
        },
        "training": {
            "updates": 2_500,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "lr_schedule": "linear",
            "evaluate_every": 500,
        },
    }

    data: str | None = None
    source_column: int | str = 0
    target_column: int | str = 1
    subset: str | None = None
    train_source: str | None = None
    train_target: str | None = None
    dev_source: str | None = None
    dev_target: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    tokens: Literal["words", "bpe"] = "words"
    lower: bool = False
    tokenised: bool = False
    source_size: int = 8_000
    target_size: int = 5_000
    length: int = 50
    train_size: int | None = None
    dev_size: int | None = None
    test_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings against each other.

        Raises:
            ValueError: naming the setting that is wrong.
        """
        columns = self.columns
        if isinstance(columns.source, str) != isinstance(columns.target, str):
            raise ValueError("source_column and target_column must both be numbers or both names")
        if columns.source == columns.target:
            raise ValueError(f"source_column and target_column are both {columns.source}")
        for name in ("source_column", "target_column"):
            column = getattr(self, name)
            if isinstance(column, int) and column < 0:
                raise ValueError(f"{name} is {column}; columns are counted from 0")
        least = BYTES + 1 if self.tokens == "bpe" else 1
        for name in ("source_size", "target_size"):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("length", "train_size", "dev_size", "test_size"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        self._check_files()

    @property
    def columns(self) -> Columns:
        """Where source and target stand in a file or a dataset."""
        return Columns(self.source_column, self.target_column)

    def _check_files(self) -> None:
        """See that the data are given, once, and files as pairs."""
        files = {name: self._files(name) for name in ("train", "dev", "test")}
        for name, (source, target) in files.items():
            if (source is None) != (target is None):
                given, other = ("source", "target") if source else ("target", "source")
                raise ValueError(f"{name}_{given} is given without {name}_{other}")
        named = [f"{name}_source" for name, (source, _) in files.items() if source]
        if self.data and named:
            raise ValueError(f"data is given beside {named[0]}; give the one or the others")
        if not self.data and "train_source" not in named:
            raise ValueError("translation needs data, or train_source and train_target")

    def _files(self, name: str) -> tuple[str | None, str | None]:
        return getattr(self, f"{name}_source"), getattr(self, f"{name}_target")

    def load(self) -> Data:
        """Read, check and split the pairs.

        Raises:
            DataError: naming the file, the line and what would be right.
            MissingExtraError: where a library is not installed.
        """
        self._metrics()
        parts, notes = self._parts()
        codec = TranslationCodec.learn(
            parts["train"],
            tokens=self.tokens,
            lower=self.lower,
            tokenised=self.tokenised,
            sizes=(self.source_size, self.target_size),
            columns=self.columns,
        )
        train, dev, test = (codec.examples(parts[name]) for name in ("train", "dev", "test"))
        notes.append(known("source", codec.source, test.sources))
        notes.append(known("target", codec.target, test.targets.shortened(1)))
        return Data(train, dev, test, codec, notes)

    def texts(self) -> Splits[tuple[str, str]]:
        """The pairs of every split.

        Raises:
            DataError: naming the file, the line and what would be right; also where a setting of
                the task's own tokens is given.
            MissingExtraError: where a library is not installed.
        """
        check_left_out(self, OWN_TOKENS)
        self._metrics()
        parts, notes = self._parts()
        plain = str.lower if self.lower else str
        pairs = {k: [(plain(p.source), plain(p.target)) for p in part] for k, part in parts.items()}
        return Splits(pairs, notes)

    def evaluation(self, codec: Codec, path: str) -> Examples:
        """The pairs of another file with the same columns.

        Raises:
            DataError: naming the file, the line and what would be right.
        """
        if not isinstance(codec, TextCodec):
            return codec.evaluation(path)
        plain = str.lower if self.lower else str
        pairs = [(plain(one), plain(other)) for one, other in read_table(path, self.columns)]
        return codec.encode([{"source": one, "target": other} for one, other in pairs], path)

    def _parts(self) -> tuple[dict[str, list[Pair]], list[str]]:
        """The pairs of every split, and notes on them."""
        files = {name: self._files(name) for name in ("train", "dev", "test")}
        parts = read_parts(self.data, files, self.columns, self.subset)
        where, total = self.data or self.train_source, len(parts["train"])
        own = {"dev": self.dev_size or OWN, "test": self.test_size or OWN}
        complete(parts, self._target, own, self.seed, "translation split")
        if not all(parts.values()):
            raise DataError(f"{where}: {total} pairs are too few to split")
        notes = []
        every, most = parts["train"], f"{self.length} words on a side"
        parts["train"] = short(every, self.length, Words(tokenised=self.tokenised))
        if not parts["train"]:
            raise DataError(f"{where}: all pairs to train on have over {most}")
        if left := len(every) - len(parts["train"]):
            notes.append(f"{left} pairs of train were left out: they have over {most}")
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        notes += cut(parts, sizes, self.seed, "translation", "pairs")
        notes += overlaps(parts)
        notes.append(", ".join(f"{name} {len(parts[name])}" for name in sizes) + " pairs")
        return parts, notes

    def _target(self, pair: Pair) -> str:
        """What makes pairs equal when they are split."""
        plain = " ".join(pair.target.split())
        return plain.lower() if self.lower else plain

    def score(
        self,
        codec: Codec,
        hypotheses: Sequence[Sequence[int]],
        examples: Examples,
    ) -> dict[str, float]:
        """BLEU and chrF of the texts, by sacrebleu, and the share of those that are right.

        Outputs are scored against the references' text as it was read; `<unk>` matches nothing.

        Args:
            codec: a `TranslationCodec`, or a `TextCodec`.
            hypotheses: the outputs.
            examples: `Translations`, or `TextExamples`.

        Raises:
            MissingExtraError: where `sacrebleu` is not installed.
        """
        if isinstance(codec, TextCodec):
            texts = [codec.decode(row) for row in hypotheses]
        else:
            write = cast(TranslationCodec, codec).text
            texts = [write(row, UNMATCHED) for row in hypotheses]
        return self._metrics().score(texts, cast(Translations | TextExamples, examples).texts)

    def signatures(self) -> dict[str, str]:
        """How sacrebleu computes BLEU and chrF, in its own words.

        Raises:
            MissingExtraError: where `sacrebleu` is not installed.
        """
        return self._metrics().signatures()

    def position_errors(self, hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
        """For every token of the reference, whether the output is wrong there.

        By an alignment with the fewest edits: a token is wrong where it was substituted or left
        out, or where something was inserted before it; the last one also for what comes after it.
        `<unk>`, which is -1 in the reference, is always wrong.
        """
        return aligned_errors(hypothesis, reference)

    def majority(self, data: Data) -> dict[str, float]:
        """The metrics on the test set of one guess for every source, the better of two on dev."""
        return constant_majority(self, data)

    def _metrics(self) -> TranslationMetrics:
        return TranslationMetrics(lower=self.lower, tokenised=self.tokenised)


def known(side: str, vocabulary: Vocabulary, test: Ragged) -> str:
    """A note on how many words are known of a side, or how many byte-pair tokens it has."""
    symbols = vocabulary.actions - (vocabulary.eos is not None)
    if vocabulary.unknown is None:
        return f"{side}: {symbols} byte-pair tokens"
    tokens = [token for row in Tokens(test) for token in row]
    share = tokens.count(vocabulary.unknown) / len(tokens)
    return f"{side}: {symbols - 1} words are known; {share:.1%} of the words of test are not"
