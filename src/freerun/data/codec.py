"""Codecs, which convert rows to tokens and outputs to text, saved with the weights."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from freerun.data.base import Examples, Sources
from freerun.data.tokens import Normalization, add_backspace_token, decode_tokens, load_tokenizer
from freerun.errors import DataError
from freerun.files import check_json, read_json, write
from freerun.vocabulary import Vocabulary

CODEC_FILE = "codec.json"
"""The name of the file, in the folder of a model, that describes its codec."""
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")

_FORMS: dict[str, Literal["NFC", "NFD", "NFKC", "NFKD"]] = {
    "nfc": "NFC",
    "nfd": "NFD",
    "nfkc": "NFKC",
    "nfkd": "NFKD",
}

C = TypeVar("C", bound="Codec")


class Codec(ABC):
    """The conversion of rows to examples and of outputs to text, saved with the weights.

    Attributes:
        kind: the name of this kind of codec in codec.json.
        kinds: all kinds, by that name.
        shared: whether sources use the tokens of targets, and share their embeddings.
        prefix: the tokens that a decoder reads before bos in every row.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Codec]]] = {}
    shared: bool = False
    prefix: tuple[int, ...] = ()

    def __init_subclass__(cls, **settings: Any) -> None:
        """Register a kind of codec by its name."""
        super().__init_subclass__(**settings)
        if "kind" in vars(cls):
            Codec.kinds[cls.kind] = cls

    @property
    @abstractmethod
    def target(self) -> Vocabulary:
        """The tokens that are written."""

    @property
    @abstractmethod
    def features(self) -> int | None:
        """The width of real-valued inputs; None for token inputs."""

    @property
    @abstractmethod
    def factors(self) -> tuple[int, ...]:
        """The number of ids of each token of a position, including padding; () for real inputs.

        Ids of factor k lie in 0 … factors[k]-1. With one factor a source is Int[b, s], with more it
        is Int[b, s, f].
        """

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """The maximum number of tokens of an output, eos included.

        None if every output is as long as its source.
        """

    def with_backspace(self) -> Codec:
        """Return a copy with an action that withdraws the last token; itself if it has one.

        Examples stay valid: ids of targets do not change, and padding is marked by masks.

        Raises:
            ValueError: if outputs have no eos.
        """
        if self.target.backspace is not None:
            return self
        raise ValueError("outputs without eos cannot have a backspace")

    @abstractmethod
    def encode(self, rows: Iterable[Mapping[str, Any]], name: str = "the data") -> Examples:
        """Return rows as examples.

        Args:
            rows: mappings with the columns that this kind of codec reads. A column `where` may
                contain the name of the row in messages, such as "file.txt, line 7".
            name: where the rows come from, for messages.

        Raises:
            DataError: if a row cannot be encoded. The message names it, counted from 0, and what is
                expected.
        """

    @abstractmethod
    def encode_sources(self, rows: Iterable[Mapping[str, Any]], name: str = "the data") -> Sources:
        """Return rows without targets as examples to predict from.

        Args:
            rows: as in `encode`. A column `lines` has the lines from which a row was read.
            name: where they come from, for messages.

        Raises:
            DataError: if a row cannot be encoded. The message names it and what is expected.
        """

    @abstractmethod
    def read(self, lines: Sequence[str], name: str) -> Sources:
        """Read sources without targets from the lines of a file called `name`, to predict from.

        Raises:
            DataError: names the file, the line and what is expected.
        """

    def write(self, tokens: Sequence[int], lines: Sequence[str]) -> str:
        """Return the text of an output, as `freerun predict` prints it.

        Args:
            tokens: the output; tokens after its eos are ignored.
            lines: the lines from which its source was read (`Sources.lines`).
        """
        return self.text(tokens)

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of an output up to its eos, as it stands, without special tokens.

        The unknown token is not left out: it is `<unk>`.
        """

    def normalize(self, text: str) -> str:
        """Return a text as metrics compare it: without white space that tokens do not preserve."""
        return text

    def text(self, tokens: Sequence[int]) -> str:
        r"""Return the text of an output in one line, with `\n` for its line breaks."""
        return self.join_lines(self.decode(tokens))

    def join_lines(self, text: str) -> str:
        r"""Return a text as metrics compare it, in one line, with `\n` for its line breaks."""
        return self.normalize(text).replace("\r", "").replace("\n", "\\n")

    def source_text(self, values: Tensor) -> str | None:
        """Return the text of a source in one line; None if sources are not text.

        Args:
            values: the row of `Source.values`, without padding.
        """
        return None

    @abstractmethod
    def save_pretrained(self, directory: str) -> None:
        """Write codec.json, and all other files of the codec, into `directory`."""

    @classmethod
    @abstractmethod
    def from_pretrained(cls: type[C], directory: str) -> C:
        """Return the codec that was saved in `directory`.

        Raises:
            DataError: if there is none, or it is of another kind.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class WritingCodec(Codec):
    """A codec whose outputs are text, in the tokens of a tokenizer.

    Args:
        tokenizer: the tokenizer of outputs.
        limit: the maximum number of tokens of an output, eos included; None if it has no eos, and
            is as long as its source.
        bos: the token that is read at the first cell; by default that of the tokenizer, or its eos.
        pad: the token that fills shorter rows; by default likewise.
        whitespace: how texts are compared: unchanged (kept), without white space around them
            (stripped), or with one space for white space of any kind (single).
        normalization: the normalization form of Unicode in which texts are compared.
    """

    tokenizer: PreTrainedTokenizerBase
    limit: int | None = 256
    bos: int | None = None
    pad: int | None = None
    whitespace: Literal["kept", "stripped", "single"] = "stripped"
    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; it must be at least 1")
        if self.whitespace not in ("kept", "stripped", "single"):
            raise ValueError(
                f"whitespace is {self.whitespace!r}; it must be kept, stripped or single"
            )
        if self.normalization not in get_args(Normalization):
            raise ValueError(
                f"normalization is {self.normalization!r}; it must be one of "
                f"{', '.join(get_args(Normalization))}"
            )
        _check_tokenizer(self.tokenizer)
        if self.limit is not None and self.tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no eos token, which ends outputs: set its eos_token")

    @cached_property
    def target(self) -> Vocabulary:
        """The tokens of the tokenizer; those without a text are called `<unused i>`."""
        own = self.tokenizer
        size = max(len(own), max(own.get_vocab().values()) + 1)
        symbols = [
            f"<unused {i}>" if symbol is None else symbol
            for i, symbol in enumerate(own.convert_ids_to_tokens(list(range(size))))
        ]
        eos = None if self.limit is None else cast(int, own.eos_token_id)
        bos, pad = (
            (own.eos_token_id if its is None else its) if here is None else here
            for here, its in ((self.bos, own.bos_token_id), (self.pad, own.pad_token_id))
        )
        # Some tokenizers name another special token as unknown, such as GPT-2's its eos.
        named = own.unk_token_id not in (None, eos, bos, pad)
        return Vocabulary(
            tuple(symbols),
            bos=cast(int, bos),
            pad=cast(int, pad),
            eos=eos,
            backspace=getattr(own, "backspace_token_id", None),
            unknown=cast(int, own.unk_token_id) if named else None,
        )

    def with_backspace(self) -> Codec:
        """Return a copy with a backspace in the tokenizer; itself if it has one.

        Raises:
            ValueError: if outputs have no eos, or the tokenizer has a token of that name for
                something else.
        """
        if self.target.backspace is not None or self.limit is None:
            return super().with_backspace()
        actions = self.target.actions
        # Tokens after all actions move up by one.
        bos, pad = (
            None if token is None else token + (token >= actions) for token in (self.bos, self.pad)
        )
        tokenizer = add_backspace_token(self.tokenizer)
        return dataclasses.replace(self, tokenizer=tokenizer, bos=bos, pad=pad)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of an output up to its eos, as it stands, without special tokens.

        The unknown token is not left out: it is `<unk>`.
        """
        written = list(tokens)
        if self.target.eos in written:
            written = written[: written.index(self.target.eos)]
        return decode_tokens(self.tokenizer, written)

    def normalize(self, text: str) -> str:
        """Return a text as metrics compare it: without what the tokens do not preserve."""
        if self.normalization != "none":
            text = unicodedata.normalize(_FORMS[self.normalization], text)
        if self.whitespace == "single":
            return " ".join(text.split())
        return text.strip() if self.whitespace == "stripped" else text

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json and the files of the tokenizer into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(directory)
        write_fields(self, directory, tokenizer=...)

    @classmethod
    def from_pretrained(cls: type[C], directory: str) -> C:
        """Return the codec that was saved in `directory`. Custom code of a tokenizer is never run.

        Raises:
            DataError: if there is none, it is of another kind, the tokenizer is missing, or a
                field is missing, unknown or of the wrong type.
        """
        path, settings = read_fields(cls, directory, tokenizer=...)
        return build_codec(cls, path, tokenizer=load_saved_tokenizer(directory), **settings)


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the settings of a tokenizer can be used, and can be saved after training.

    Raises:
        DataError: if the maximum length is not a number, or a text has half of a surrogate pair.
    """
    length = tokenizer.model_max_length
    if not isinstance(length, (int, float)):
        raise DataError(f"the tokenizer's model_max_length is {length!r:.40}; it must be a number")
    settings = {**tokenizer.init_kwargs, "chat_template": tokenizer.chat_template}
    for name, value in settings.items():
        if name in ("vocab", "merges"):  # which are large, and are separate files in UTF-8
            continue
        try:
            json.dumps({name: value}, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise DataError(
                f"the tokenizer's {shown} has half of a surrogate pair (\\ud800 to \\udfff), which "
                "is not a character and cannot be saved"
            ) from None


def load_saved_tokenizer(directory: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer that was saved next to codec.json.

    Raises:
        DataError: if there is none, or it cannot be read.
    """
    if not any(Path(directory, name).exists() for name in TOKENIZER_FILES):
        raise DataError(f"{Path(directory, TOKENIZER_FILES[0])}: there is no such file")
    return load_tokenizer(directory)


def write_fields(codec: Codec, directory: str, **replaced: Any) -> None:
    """Write the kind and the fields of a dataclass as codec.json, atomically.

    Args:
        codec: the dataclass.
        directory: an existing folder.
        replaced: the values to write for fields that are saved elsewhere; `...` to omit a field.
    """
    fields: Any = codec
    values = {field.name: getattr(codec, field.name) for field in dataclasses.fields(fields)}
    contents = {"kind": codec.kind, **values, **replaced}
    kept = {name: value for name, value in contents.items() if value is not ...}
    text = json.dumps(kept, ensure_ascii=False, indent=1)
    write(Path(directory, CODEC_FILE), text + "\n")


def read_fields(cls: type[Codec], directory: str, **replaced: Any) -> tuple[str, dict[str, Any]]:
    """Return the path of codec.json in `directory`, and its contents: the fields of a dataclass.

    Args:
        cls: the dataclass.
        directory: the folder.
        replaced: the types of fields that were written with other values; `...` for omitted ones.

    Raises:
        DataError: if there is no such file, it is of another kind, or a field is missing,
            unknown or of the wrong type.
    """
    path, contents = read_codec_file(directory)
    if contents["kind"] != cls.kind:
        raise DataError(f"{path}: it is a codec of {contents['kind']}, not of {cls.kind}")
    fields: Any = cls
    types = {**get_type_hints(cls), **replaced}
    names = [f.name for f in dataclasses.fields(fields) if types[f.name] is not ...]
    for name in contents:
        if name not in (*names, "kind"):
            raise DataError(f"{path}: unknown field {name!r}; known are {', '.join(names)}")
    settings = {}
    for name in names:
        if name not in contents:
            raise DataError(f"{path}: the field {name!r} is missing")
        settings[name] = _convert(contents[name], types[name], f"{path}: the field {name!r}")
    return path, settings


def build_codec(cls: type[C], path: str, **settings: Any) -> C:
    """Build the codec with these settings, which were read from `path`.

    Raises:
        DataError: if they contradict each other.
    """
    try:
        codec = cls(**settings)
        codec.target  # noqa: B018  (invalid special tokens are refused here)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return codec


def load_codec(directory: str) -> Codec:
    """Return the codec of any kind that was saved in `directory`.

    Raises:
        DataError: if there is none, its kind is unknown, or a field is wrong.
    """
    path, contents = read_codec_file(directory)
    kind = contents["kind"]
    if kind not in Codec.kinds:
        raise DataError(
            f"{path}: unknown kind {kind!r}; known are {', '.join(sorted(Codec.kinds))}"
        )
    return Codec.kinds[kind].from_pretrained(directory)


def read_codec_file(directory: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the contents of codec.json in `directory`, which name its kind.

    Raises:
        DataError: if there is no such file, or it is not a JSON object that names a kind.
    """
    path = str(Path(directory, CODEC_FILE))
    contents = read_json(path, DataError)
    if "task" in contents and "kind" not in contents:
        raise DataError(
            f"{path}: it was written by an older version of freerun, whose models cannot be "
            "loaded anymore; train the model again"
        )
    if not isinstance(contents.get("kind"), str):
        raise DataError(f"{path}: the field 'kind' is missing")
    return path, contents


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Check the type of `value`, and convert lists to tuples."""
    if get_origin(kind) is tuple:
        check_json(value, list[Any], where, DataError)
        return tuple(_convert(item, get_args(kind)[0], where) for item in value)
    # The codec itself checks which text is allowed.
    check_json(value, str if get_origin(kind) is Literal else kind, where, DataError)
    return float(value) if kind is float else value
