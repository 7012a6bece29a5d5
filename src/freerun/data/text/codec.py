"""What a model with a tokenizer reads and writes."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from freerun.data.base import Codec, DataError
from freerun.data.codec import CODEC_FILE, read_fields
from freerun.data.files import write_text
from freerun.data.store import Ragged, Stored
from freerun.data.text.bounds import Bounds, Truncation
from freerun.data.text.columns import KINDS, answered, prompts_of
from freerun.data.text.encoder import Encoder
from freerun.vocabulary import BACKSPACE, Vocabulary

if TYPE_CHECKING:
    from freerun.data.text.examples import TextExamples


def add_backspace_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer with one more special token, `BACKSPACE`, its `backspace_token`.

    It is saved with the tokenizer, as plain transformers does, and read again; no text is read
    otherwise than before but for one that has the token in it.

    Args:
        tokenizer: the tokenizer; itself is given back where it has a `backspace_token`.

    Raises:
        ValueError: where it has a token of that name for something else.
    """
    if getattr(tokenizer, "backspace_token", None) is not None:
        return tokenizer
    if BACKSPACE in tokenizer.get_vocab():
        raise ValueError(
            f"the tokenizer has a token {BACKSPACE} that is not its backspace_token; if it is, "
            "say so in tokenizer_config.json"
        )
    found = copy.deepcopy(tokenizer)
    found.add_tokens([AddedToken(BACKSPACE, special=True, normalized=False)])
    found.SPECIAL_TOKENS_ATTRIBUTES = [*found.SPECIAL_TOKENS_ATTRIBUTES, "backspace_token"]
    found.backspace_token = BACKSPACE
    return found


TOKENIZER = ("tokenizer_config.json", "tokenizer.json")


@dataclasses.dataclass(frozen=True, eq=False)
class TextCodec(Codec):
    """The tokens of a tokenizer, in and out.

    Args:
        tokenizer: the tokenizer. It needs an eos; where it has no padding token, eos serves.
        limit: the most tokens of an output, eos included.
        start: the token that the decoder of an encoder-decoder starts with; None for a causal
            model, which goes on from the prompt.
        column: what a line without columns is, to predict from: the first column of one of `KINDS`.
        separator: what stands between a source and its target, where a causal model reads the
            columns `source` and `target`.
        block: the most tokens of a piece of running text to learn; None leaves it whole.
        max_prompt: the most tokens of a prompt; None for any number.
        max_completion: the most tokens of a completion to learn, eos included; None for `limit`.
        truncation: what becomes of rows with more (see `Bounds`).

    Raises:
        DataError: where the tokenizer has no eos.
        ValueError: where a setting is out of range.
    """

    task = "pairs"
    shared = True
    features = None
    tokenizer: PreTrainedTokenizerBase
    limit: int = 256
    start: int | None = None
    column: str = "prompt"
    separator: str = "\n"
    block: int | None = None
    max_prompt: int | None = None
    max_completion: int | None = None
    truncation: Truncation = "error"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no eos token, which ends outputs: set its eos_token")
        for name in ("limit", "block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.column not in KINDS or self.column == "input_ids":
            raise ValueError(f"column is {self.column!r}; no line of text is that")
        self.bounds  # noqa: B018
        if self.bounds.completion > self.limit:
            raise ValueError(
                f"max_completion is {self.max_completion}, over the limit of {self.limit} tokens"
            )

    @cached_property
    def bounds(self) -> Bounds:
        """The most tokens of either side."""
        most = self.limit if self.max_completion is None else self.max_completion
        return Bounds(self.max_prompt, most, self.truncation)

    @cached_property
    def encoder(self) -> Encoder:
        """From text to tokens."""
        return Encoder(self.tokenizer, causal=self.start is None, block=self.block)

    @cached_property
    def target(self) -> Vocabulary:
        """The tokens of the tokenizer, of which those without a text are named `<unused i>`."""
        own = self.tokenizer
        ids = own.get_vocab().values()
        size = max(len(own), max(ids) + 1)
        symbols = [
            f"<unused {i}>" if symbol is None else symbol
            for i, symbol in enumerate(own.convert_ids_to_tokens(list(range(size))))
        ]
        eos = cast(int, own.eos_token_id)
        pad = eos if own.pad_token_id is None else cast(int, own.pad_token_id)
        first = eos if own.bos_token_id is None else cast(int, own.bos_token_id)
        # Some tokenizers call an ordinary special token unknown, as GPT-2's does its eos.
        named = own.unk_token_id not in (None, eos, pad, first)
        return Vocabulary(
            tuple(symbols),
            bos=first if self.start is None else self.start,
            pad=pad,
            eos=eos,
            backspace=getattr(own, "backspace_token_id", None),
            unknown=cast(int, own.unk_token_id) if named else None,
        )

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one token, of those of the targets."""
        return (self.target.actions,)

    def with_backspace(self) -> TextCodec:
        """The same with a tokenizer that has a backspace; itself, where it has one.

        Raises:
            ValueError: where the tokenizer has a token of that name for something else.
        """
        if self.target.backspace is not None:
            return self
        return dataclasses.replace(self, tokenizer=add_backspace_token(self.tokenizer))

    def read(self, lines: Sequence[str], name: str) -> Stored:
        """Prompts to complete: one a line, or a JSON object a line with the columns of `KINDS`.

        Raises:
            DataError: where a line is empty or no such object, or a prompt is too long or has no
                tokens.
        """
        prompts = prompts_of(self, lines, name)
        sources = Ragged.of(prompts, self.target.pad)
        empty = Ragged.of([[] for _ in lines], self.target.pad)
        return Stored(sources, empty, eos=False, lines=[[line] for line in lines])

    def write(self, tokens: Sequence[int], source: Sequence[str]) -> str:
        r"""The completion in one line, with `\n` for its line breaks.

        Of a JSON object, that object with the completion in its column.
        """
        found = answered(source, self.decode(tokens))
        return _line(self.decode(tokens)) if found is None else found

    def text(self, tokens: Sequence[int]) -> str:
        r"""The completion in one line, with `\n` for its line breaks."""
        return _line(self.decode(tokens))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an output up to its eos, without special tokens or white space around it."""
        written = list(tokens)
        if self.target.eos in written:
            written = written[: written.index(self.target.eos)]
        return self.encoder.decode(written).strip()

    def source_text(self, values: Tensor) -> str:
        """The text of a prompt, in one line."""
        return _line(self.encoder.decode(values.tolist()).strip())

    def evaluation(self, path: str) -> TextExamples:
        """Examples of a file with the columns of `KINDS` (see `read_rows`).

        Raises:
            DataError: naming the file, the row and what would be right.
            MissingExtraError: where `datasets` is not installed.
        """
        from freerun.data.files import read_rows
        from freerun.data.text.examples import TextExamples

        return TextExamples.from_rows(read_rows(path), self, path)

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json and the files of the tokenizer into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(directory)
        names = [field.name for field in dataclasses.fields(self) if field.name != "tokenizer"]
        contents: dict[str, Any] = {"task": self.task} | {n: getattr(self, n) for n in names}
        text = json.dumps(contents, ensure_ascii=False, indent=1)
        write_text(str(Path(directory, CODEC_FILE)), text + "\n")

    @classmethod
    def from_pretrained(cls, directory: str) -> TextCodec:
        """The codec that was saved in `directory`. No code of a tokenizer's own is run.

        Raises:
            DataError: where there is none, it is of another kind, the tokenizer is missing, or a
                field is missing, unknown or of the wrong type.
        """
        path, settings = read_fields(cls, directory, skip=("tokenizer",))
        if not any(Path(directory, name).exists() for name in TOKENIZER):
            raise DataError(f"{Path(directory, TOKENIZER[0])}: there is no such file")
        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{directory}: the tokenizer cannot be read ({error})") from None
        try:
            return cls(tokenizer, **settings)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None


def _line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "\\n")
