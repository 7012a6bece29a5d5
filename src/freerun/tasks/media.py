"""Images to text and speech to text."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformers import GenerationConfig, PreTrainedTokenizerBase

from freerun.data import Codec, DataError, MediaCodec, Sources, Splits
from freerun.data.folders import check_inside, read_splits
from freerun.data.media import SUFFIXES, Media, Processor
from freerun.data.media_codec import find_media
from freerun.data.rows import Row, write_object
from freerun.data.splits import add_missing_splits, describe_sizes, note_shared, subsample
from freerun.data.tables import FORMATS, FileRow, Table, parse_object, read_table
from freerun.data.tokens import Tokens
from freerun.tasks.base import Task

TEXT_COLUMNS = ("target", "text", "transcription", "sentence", "transcript", "label")
"""The columns that may have the text, the first that there is."""


@dataclass(frozen=True)
class MediaTask(Task):
    """The base class of tasks whose sources are files of images or sounds."""

    metrics: ClassVar[tuple[str, ...]] = ("character_error", "exact_match")
    cost: ClassVar[str] = "edit_distance"
    media: ClassVar[Media]
    default_model: ClassVar[str] = "seq2seq"

    data: str
    subset: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    target_tokens: str = "characters"
    prefix: str = ""
    unusable: Literal["error", "drop"] = "error"
    train_size: int | None = None
    dev_size: int | None = None
    test_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is out of range. The message names it.
        """
        self.check_sizes("train_size", "dev_size", "test_size")
        Tokens.parse(self.target_tokens)

    def rows(self) -> Splits[Row]:
        """Read and split the rows.

        Raises:
            DataError: names the file, and what is expected.
            MissingExtraError: if `datasets` is not installed.
        """
        self._check_metadata()
        tables = read_splits(self.data, self.subset)
        parts = {name: self._name_columns(table, self.data) for name, table in tables.items()}
        sizes = {"train": self.train_size, "dev": self.dev_size, "test": self.test_size}
        what = ("rows", f"{self.media} files")
        stream = (self.seed, f"{self.name} split")
        given = dict(parts)
        add_missing_splits(parts, self._key, sizes, *stream, where=self.data, what=what)
        notes = note_shared(given, self._key, what[1])
        notes += subsample(parts, sizes, self.seed, self.name, "rows")
        return Splits(parts, [*notes, describe_sizes(parts, "rows")])

    def read_examples(self, path: str) -> Sequence[Row]:
        """Read the rows of a file of rows, or of a folder without splits, to evaluate on.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        if not Path(path).is_dir():
            return self._name_columns(read_table(path), path)
        table, *others = read_splits(path).values()
        if others:
            raise DataError(f"{path}: it has several splits; name the folder of one of them")
        return self._name_columns(table, path)

    def read_sources(self, codec: Codec, lines: Sequence[str], name: str) -> Sources:
        """Read sources to predict from: the path of a file in each line, or an object with it.

        Raises:
            DataError: names the file, the line and what is expected.
        """
        if self.source_column is not None:
            places = (f"{name}, line {number}" for number in count(1))
            lines = [self._convert_line(*pair) for pair in zip(lines, places)]  # noqa: B905 (endless)
        return codec.read(lines, name)

    def _convert_line(self, line: str, place: str) -> str:
        """Return a line to predict from with the chosen column, if it is an object."""
        if not line.lstrip().startswith("{"):
            return line
        return write_object(self.choose_source(parse_object(line, place), place))

    def choose_source(self, row: Row, place: str) -> Row:
        """Return a row to predict from with the chosen column, if there is one.

        Raises:
            DataError: if it has no such column, or it is null. The message names the place.
        """
        if self.source_column is None:
            return row
        if row.get(self.source_column) is None:
            there = ", ".join(str(name) for name in row if row[name] is not None) or "none"
            raise DataError(f"{place}: no column {self.source_column}; it has {there}")
        return {**row, self.media: row[self.source_column]}

    def _check_metadata(self) -> None:
        """Check that a folder does not have images or sounds alone."""
        folder = Path(self.data)
        files = [path.name for path in folder.rglob("*")] if folder.is_dir() else []
        media = tuple(SUFFIXES[self.media])
        rows = (*FORMATS, *(f"{suffix}.gz" for suffix in FORMATS))
        if any(name.lower().endswith(media) for name in files) and not any(
            name.endswith(rows) for name in files
        ):
            raise DataError(
                f"{self.data}: it has {self.media} files, but no metadata.csv or metadata.jsonl "
                "with their names in file_name and their texts in text"
            )

    @abstractmethod
    def make_processor(self) -> Processor:
        """Return the processor of a model without one."""

    def set_language(self, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
        """Tell a tokenizer of the model at `path` which special tokens precede a text."""

    def learn_codec(self, rows: Splits[Row], **options: Any) -> Codec:
        """Learn the codec, for a model without a tokenizer.

        Raises:
            DataError: if a setting has no effect on such a model.
        """
        if self.prefix:
            raise DataError("prefix has no effect on a model without a tokenizer; leave it out")
        processor = self.make_processor()
        spec = {"target_tokens": self.target_tokens, "processor": processor, **options}
        return MediaCodec.learn(rows["train"], rows["dev"], unusable=self.unusable, **spec)

    def make_codec(self, path: str, tokenizer: PreTrainedTokenizerBase, start: int) -> MediaCodec:
        """Return the codec of a pretrained model.

        Args:
            path: the folder of the model, with its processor.
            tokenizer: its tokenizer.
            start: the token that its decoder starts with.

        Raises:
            DataError: if it has no processor, or a setting has no effect on it.
        """
        self.set_language(tokenizer, path)
        whisper: Any = tokenizer if hasattr(tokenizer, "set_prefix_tokens") else None
        if whisper is not None and whisper.prefix_tokens[0] != start:
            own, other = tokenizer.convert_ids_to_tokens([start, whisper.prefix_tokens[0]])
            raise DataError(
                f"{path}: decoder_start_token_id of config.json is that of {own}; the tokenizer "
                f"begins with {other}"
            )
        processor = Processor.load(self.media, path)
        return MediaCodec.for_model(
            tokenizer, processor, start, prefix=self.prefix, unusable=self.unusable
        )

    def _name_columns(self, table: Table, data: str) -> list[Row]:
        """Return rows with the columns of a `MediaCodec`; `data` is the file or folder of them."""
        if not table.rows:
            raise DataError(f"{table.name}: there are no rows")
        named = self.target_column
        with _hint("target_column" if named is None else None):
            text = table.find_column(TEXT_COLUMNS if named is None else [named])
        return [self._name_row(row, text, Path(data)) for row in table.rows]

    def _name_row(self, row: FileRow, text: str, data: Path) -> Row:
        if self.source_column is None:
            with _hint("source_column"):
                value = find_media(row, self.media, row.place)
        elif self.source_column in row:
            value = row[self.source_column]
        else:
            raise DataError(f"{row.place}: no column {self.source_column}; it has {', '.join(row)}")
        if isinstance(value, str):
            folder = Path(row.origin.rpartition(", ")[0]).parent
            path = Path(folder, value)
            if data.is_dir() and path.exists():
                check_inside(path, data)
            value = str(path)
        return {self.media: value, "target": row.get(text), "where": row.place}

    def _key(self, row: Row) -> str:
        """Return the key that rows with the same file share."""
        value = row[self.media]
        if isinstance(value, Mapping):
            found = value.get("bytes") or str(value.get("path")).encode()
            return hashlib.sha256(found).hexdigest()
        return str(value)


@dataclass(frozen=True)
class ImageToText(MediaTask):
    """Images of text, such as lines of handwriting, to their text.

    The data are a folder with images and a file of rows, metadata.csv or metadata.jsonl, as
    `datasets` has them (`file_name` and `text`), one for all or in a folder for each split; such a
    file itself; or a dataset with a column of type Image. If dev or test is missing, it is taken
    out of train at random.

    Args:
        data: the folder, the file (.csv, .tsv, .jsonl, .parquet), or a `datasets` id or folder.
        subset: the subset of a dataset that has several.
        source_column: the column of images; by default `image`, or else `file_name`, `file` or
            `path`.
        target_column: the column of texts; by default the first of target, text, transcription,
            sentence, transcript and label that there is.
        target_tokens: the tokens of texts for a model without a tokenizer, such as characters,
            words:N or bpe:N.
        prefix: special tokens of a pretrained model that its decoder reads before a text, such as
            the task of Donut; they are not learned.
        unusable: whether a row whose image cannot be read is an error, or is left out (drop).
        height: the height to which images are resized for a model without a processor, in pixels.
        width: the width, likewise.
        train_size: the maximum number of rows to train on, drawn by seed; by default all.
        dev_size: the maximum number of rows in dev; by default all if the data have a dev split,
            else a tenth of all rows, at most 1000.
        test_size: the maximum number of rows in test, likewise.
        seed: the seed of the split and of the choice of rows.
    """

    name: ClassVar[str] = "image_to_text"
    summary: ClassVar[str] = "images to their text (folders with metadata, datasets)"
    media: ClassVar[Media] = "image"

    height: int = 32
    width: int = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.check_sizes("height", "width")

    def make_processor(self) -> Processor:
        """Return the processor of a model without one."""
        return Processor.for_images(self.height, self.width)


@dataclass(frozen=True)
class SpeechToText(MediaTask):
    """Speech to its text.

    The data are a folder with sounds and a file of rows, metadata.csv or metadata.jsonl, as
    `datasets` has them (`file_name` and `text`), one for all or in a folder for each split; such a
    file itself; or a dataset with a column of type Audio. If dev or test is missing, it is taken
    out of train at random.

    Args:
        data: the folder, the file (.csv, .tsv, .jsonl, .parquet), or a `datasets` id or folder.
        subset: the subset of a dataset that has several.
        source_column: the column of sounds; by default `audio`, or else `file_name`, `file` or
            `path`.
        target_column: the column of texts; by default the first of target, text, transcription,
            sentence, transcript and label that there is.
        target_tokens: the tokens of texts for a model without a tokenizer, such as characters,
            words:N or bpe:N.
        prefix: special tokens of a pretrained model that its decoder reads before a text; they are
            not learned.
        language: the language of the speech for a multilingual Whisper, such as en.
        mode: what a multilingual Whisper does: transcribe, the default, or translate to English.
        unusable: whether a row whose sound cannot be used (broken, silent, too short or too long)
            is an error, or is left out (drop).
        seconds: the length of sources for a model without a processor, at most; shorter sounds are
            followed by silence.
        mel_bins: the number of mel bins of their spectrograms.
        train_size: the maximum number of rows to train on, drawn by seed; by default all.
        dev_size: the maximum number of rows in dev; by default all if the data have a dev split,
            else a tenth of all rows, at most 1000.
        test_size: the maximum number of rows in test, likewise.
        seed: the seed of the split and of the choice of rows.
    """

    name: ClassVar[str] = "speech_to_text"
    summary: ClassVar[str] = "speech to its text (folders with metadata, datasets)"
    metrics: ClassVar[tuple[str, ...]] = ("wer", "character_error", "exact_match")
    media: ClassVar[Media] = "audio"

    language: str | None = None
    mode: Literal["transcribe", "translate"] | None = None
    seconds: int = 5
    mel_bins: int = 80

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.check_sizes("seconds", "mel_bins")

    def make_processor(self) -> Processor:
        """Return the processor of a model without one.

        Raises:
            DataError: if a language is set, which such a model does not have.
        """
        for name in ("language", "mode"):
            if getattr(self, name) is not None:
                raise DataError(
                    f"{name} has no effect on a model without a tokenizer; leave it out"
                )
        return Processor.for_audio(self.seconds, self.mel_bins)

    def set_language(self, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
        """Tell a tokenizer which language, task and timestamps precede a text.

        Raises:
            DataError: if it has none, or not this language, or a multilingual one is given none.
        """
        given = {"language": self.language, "task": self.mode}
        given = {name: value for name, value in given.items() if value is not None}
        tell: Any = getattr(tokenizer, "set_prefix_tokens", None)  # only Whisper's has it
        if tell is None:
            if given:
                raise DataError(
                    "language and mode are those of Whisper; other models have special tokens "
                    "(--task.prefix)"
                )
            return
        multilingual = is_multilingual(path)
        if multilingual and self.language is None:
            raise DataError(
                f"{path}: it is multilingual; tell it the language of the speech, as in "
                "--task.language en (--language en to evaluate or predict without training)"
            )
        if multilingual is False and given:
            raise DataError(f"{path}: it is for English alone; leave language and mode out")
        if self.language is not None:
            given.setdefault("task", "transcribe")
        try:
            tell(**given, predict_timestamps=False)
        except ValueError as error:
            raise DataError(f"language: {' '.join(str(error).split()):.200}") from None


def is_multilingual(path: str) -> bool | None:
    """Return whether a Whisper is multilingual, by its generation config; None if that is unknown.

    Args:
        path: the folder of the model, or its id on the hub.
    """
    try:
        found: Any = GenerationConfig.from_pretrained(path)
    except OSError:
        return None
    return getattr(found, "is_multilingual", None)


@contextmanager
def _hint(setting: str | None) -> Iterator[None]:
    """Add to an error on a missing column which setting names it."""
    try:
        yield
    except DataError as error:
        hint = "" if setting is None else f"; {setting} can name another"
        raise DataError(f"{error}{hint}") from None
