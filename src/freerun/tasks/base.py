"""The base class of tasks, and how their rows become examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from freerun.data.base import Data, Sources, Splits
from freerun.data.codec import Codec
from freerun.data.factor_codec import FactorCodec
from freerun.data.feature_codec import FeatureCodec
from freerun.data.rows import FACTOR_COLUMNS, FEATURE_COLUMNS, Row
from freerun.data.store import Augmentation, StoredExamples
from freerun.data.tables import read_rows
from freerun.data.text_codec import TextCodec
from freerun.data.tokens import Tokens
from freerun.metrics import Metric, MetricSpec, check_distinct, find_metrics
from freerun.settings import SETTING_NAME, SettingError
from freerun.vocabulary import Vocabulary

Recipe = Mapping[str, Mapping[str, Any]]
"""The default settings of `model` and `training`, by their names."""


@dataclass(frozen=True)
class Task(ABC):
    """A task: it provides rows, and names the metrics of outputs.

    A subclass is a frozen dataclass whose fields are its settings. It defines `metrics` and `rows`;
    all other members have defaults.

    Args:
        extra_metrics: additional metrics to report, such as chrf, bleu:tokenize=zh,
            mauve:model=DIR, or your own as file.py:function or package.module:function; in Python
            also the function.
        headline: the metric that checkpoints are chosen by and that is reported first, instead of
            the first metric of the task.

    Attributes:
        name: the name of the task; by default the name of the class in lower case.
        summary: one line about sources and targets; by default the first line of the docstring.
        metrics: the metrics to report: names in `freerun.metrics.METRICS`, with settings after a
            colon, or addresses of functions. Checkpoints are chosen by the first.
        cost: the default cost of an output, for methods that train on costs.
        recipe: the default settings of model and training.
        default_model: the kind of model that is trained by default, to which the recipe applies.
        target_tokens: the tokens of targets, for a model without a tokenizer (see `Tokens`).
        source_tokens: the tokens of sources, likewise; None to share those of targets.
        fixed_length: whether every output is as long as its source, and has no eos.
        data_settings: the settings that are files or folders of data. Their digests are recorded,
            and an interrupted run is not resumed with others.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    cost: ClassVar[str] = "edit_distance"
    recipe: ClassVar[Recipe] = {"model": {}, "training": {}}
    fixed_length: ClassVar[bool] = False
    data_settings: ClassVar[tuple[str, ...]] = ("data", "train", "dev", "test")
    default_model: ClassVar[str] = "recurrent"

    extra_metrics: tuple[MetricSpec, ...] = field(
        default=(), kw_only=True, metadata={SETTING_NAME: "metrics"}
    )
    headline: MetricSpec | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **settings: Any) -> None:
        """Set the default name, that of the class, and summary, the first line of its docstring."""
        super().__init_subclass__(**settings)
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()
        if "summary" not in vars(cls):
            cls.summary = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    @property
    def target_tokens(self) -> str | Tokens:
        """How targets are cut into tokens."""
        return "characters"

    @property
    def source_tokens(self) -> str | Tokens | None:
        """How sources are cut into tokens; None for the tokens of targets."""
        return "characters"

    @property
    def codec_options(self) -> Mapping[str, Any]:
        """Settings of the codec that encodes its rows, such as `max_prompt`."""
        return {}

    @abstractmethod
    def rows(self) -> Splits[Row]:
        """Read, check and split the data: return the rows of train, dev and test.

        They have the columns that a codec reads (see `TextCodec.encode`, `FeatureCodec.encode`,
        `FactorCodec.encode`).

        Raises:
            DataError: names the file, the line and what is expected.
        """

    def complete(self) -> tuple[Task, list[str]]:
        """Fill in the settings that depend on the data, for a model without a tokenizer.

        Returns:
            The task with these settings, and notes on those that were chosen here.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return self, []

    def load(self) -> Data:
        """Read the data, and encode them with a codec that is learned from them (see `load_data`).

        Raises:
            DataError: names the file, the line and what is expected.
        """
        from freerun.tasks.loading import load_data  # which imports this module

        return load_data(self)

    def get_metrics(self) -> dict[str, Metric]:
        """Return the metrics to report, by name; checkpoints are chosen by the first.

        Raises:
            SettingError: if there is no such metric, or `metrics` is not a tuple of some.
            MissingExtraError: if a library that one needs is not installed.
        """
        own: object = self.metrics
        if not isinstance(own, tuple | list) or not own:
            raise SettingError(
                f"{type(self).__name__}.metrics is {own!r}; it must be a tuple of names, such as "
                "('exact_match',)"
            )
        return self.order_metrics([*own, *self.extra_metrics])

    def order_metrics(self, specs: Sequence[MetricSpec]) -> dict[str, Metric]:
        """Return the specified metrics by name, with the one that was set as headline first.

        A metric of the task that was set with other settings has these.

        Raises:
            SettingError: if there is no such metric, or two of the same name were set.
            MissingExtraError: if a library that one needs is not installed.
        """
        headline = [] if self.headline is None else [self.headline]
        check_distinct([*headline, *self.extra_metrics])
        first = find_metrics(headline)
        return {**first, **{n: m for n, m in find_metrics(specs).items() if n not in first}}

    def learn_codec(self, rows: Splits[Row], **options: Any) -> Codec:
        """Learn the codec, for a model without a tokenizer.

        By default the columns of the rows determine the kind of codec. A task with other rows
        overrides this method.

        Args:
            rows: the rows of the task.
            options: settings of the codec.

        Raises:
            DataError: if no codec supports such rows.
            ValueError: if a setting is out of range.
        """
        train, first = rows["train"], set(rows["train"][0])
        if set(FACTOR_COLUMNS) <= first:
            return FactorCodec.learn(train, **options)
        spec = {"target_tokens": self.target_tokens, "fixed_length": self.fixed_length, **options}
        if set(FEATURE_COLUMNS) <= first:
            return FeatureCodec.learn(train, rows["dev"], **spec)
        return TextCodec.learn(train, rows["dev"], source_tokens=self.source_tokens, **spec)

    def augment(self, codec: Codec, split: str, examples: StoredExamples) -> Augmentation | None:
        """Return the noise on the sources of a split, drawn anew in every epoch, if there is any.

        Draws are functions of seed, epoch and example (see `freerun.randomness`), so an example
        gets the same ones in any batch.

        Args:
            codec: the codec of the model.
            split: train, dev or test.
            examples: the examples of the rows of this split.
        """
        return None

    def read_examples(self, path: str) -> Sequence[Row]:
        """Read the rows of a new file in the task's format, with targets, to evaluate on.

        By default, this is a file with the columns of `rows`: .jsonl, .csv, .parquet and others.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return list(read_rows(path))

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read sources without targets from the lines of a file called `name`, to predict from.

        A long file is read in parts: with a codec of text, any number of lines; with others, lines
        up to a blank one.

        Args:
            codec: the codec of the model, which reads the lines by default.
            lines: the lines.
            name: the name of the file in messages.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        return codec.read(lines, name)

    def mistakes(self, vocabulary: Vocabulary) -> Mapping[int, Sequence[int]]:
        """Return, for each token, others that are plausibly written in its place by mistake.

        Tokens without an entry are never replaced.

        Args:
            vocabulary: the tokens of outputs.

        Raises:
            ValueError: if the task or the vocabulary has no such tokens.
        """
        raise ValueError(
            f"the task {self.name} names no plausible mistakes; use noise_tokens=random"
        )

    def check_sizes(self, *names: str) -> None:
        """Check that settings are at least 1, or None.

        Raises:
            ValueError: if one is not. The message names it.
        """
        for name in names:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
