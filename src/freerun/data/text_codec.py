"""The codec of text, for recurrent models and Transformers, from scratch or pretrained."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from freerun.data.codec import (
    WritingCodec,
    build_codec,
    load_saved_tokenizer,
    read_fields,
    write_fields,
)
from freerun.data.encoding import EncodedRow, RowEncoder
from freerun.data.examples import TextExamples
from freerun.data.references import REFERENCES, choose_reference
from freerun.data.rows import (
    ROW_COLUMNS,
    PromptPair,
    Row,
    complete_line,
    find_kind,
    list_rows,
    make_pairs,
    name_rows,
    parse_lines,
    split_labels,
)
from freerun.data.side_tokenizer import find_special_text
from freerun.data.store import Ragged, StoredExamples
from freerun.data.tokens import Tokens, decode_tokens, is_closed, load_tokenizer, special_ids
from freerun.data.truncation import LengthLimits, Truncation
from freerun.errors import DataError
from freerun.files import write
from freerun.vocabulary import UNKNOWN

SOURCE_TOKENIZER = "source_tokenizer.json"

UNBOUNDED = 2**31
"""More tokens than any output has."""


@dataclasses.dataclass(frozen=True, eq=False)
class TextCodec(WritingCodec):
    """A codec that reads and writes text in the tokens of a tokenizer.

    The defaults are for causal models, where completions continue their prompts. For an
    encoder-decoder, set `bos` and `continues=False`.

    Args:
        source: the tokenizer of sources, if they have their own. Their tokens then also have their
            own embeddings; otherwise sources use the tokens of targets.
        continues: whether completions continue their prompts in one text; if not, they are separate
            targets.
        source_eos: whether sources end in eos, if targets do not continue them.
        column: the column of a line to predict from, if it is not a JSON object: the first of one
            of `ROW_COLUMNS`.
        separator: the text between a source and a target that continues it, if rows have the
            columns `source` and `target`.
        block: the maximum number of learned tokens of a piece of running text; None for whole
            texts.
        context: the number of tokens of running text before a piece that are its prompt; None for
            one.
        max_prompt: the maximum number of tokens of a prompt; None for any number.
        max_completion: the maximum number of tokens of a training completion, eos included; None
            for `limit`.
        truncation: how to handle longer rows (see `LengthLimits`).

    Raises:
        DataError: if outputs end in eos, and the tokenizer has none.
        ValueError: if a setting is out of range.
    """

    kind = "text"
    features = None

    source: PreTrainedTokenizerBase | None = None
    continues: bool = True
    source_eos: bool = False
    column: str = "prompt"
    separator: str = "\n"
    block: int | None = None
    context: int | None = None
    max_prompt: int | None = None
    max_completion: int | None = None
    truncation: Truncation = "error"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        for name in ("block", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.column not in ROW_COLUMNS or self.column == "input_ids":
            raise ValueError(f"column is {self.column!r}; no line of text is that")
        self.limits  # noqa: B018  (wrong limits are refused here)
        if self.limit is not None and self.limits.completion > self.limit:
            raise ValueError(
                f"max_completion is {self.max_completion}, over the limit of {self.limit} tokens"
            )

    @classmethod
    def learn(
        cls,
        train: Sequence[Row],
        dev: Sequence[Row],
        *,
        target_tokens: str | Tokens,
        source_tokens: str | Tokens | None,
        fixed_length: bool = False,
        **options: Any,
    ) -> TextCodec:
        """Learn a codec from rows of text, for a model without a tokenizer.

        The ids of the tokens come first, then eos, then bos and padding.

        Args:
            train: the rows to train on.
            dev: rows whose characters and symbols are also known (see `Tokens`).
            target_tokens: how targets are cut into tokens.
            source_tokens: how sources are cut into tokens, with their own tokenizer; None for one
                tokenizer for both.
            fixed_length: whether outputs are as long as their sources, without eos.
            options: other settings of the codec.

        Raises:
            DataError: if rows have no columns of text.
            ValueError: if a setting is out of range.
        """
        kind = find_kind(train[0], "the data")
        if kind in ("input_ids", "messages"):
            raise DataError(
                f"rows of {kind} are in the tokens of a trained model: name one, --model DIR or an "
                "id on the Hugging Face hub"
            )
        target_spec = Tokens.parse(target_tokens)
        sides = [
            [_texts_of_column(rows, column) for column in ROW_COLUMNS[kind]]
            for rows in (train, dev)
        ]
        source = None
        if source_tokens is not None and kind != "text":
            source_spec = Tokens.parse(source_tokens)
            # Two sides with one alphabet have the same ids, including that of eos.
            eos = source_spec == target_spec and source_spec.alphabet is not None
            source = source_spec.build(sides[0][0], sides[1][0], eos=eos and not fixed_length)
        learned = [[text for side in part[source is not None :] for text in side] for part in sides]
        tokenizer = target_spec.build(*learned, eos=not fixed_length)
        continues = source is None and kind != "source"
        return cls(
            tokenizer,
            limit=None if fixed_length else UNBOUNDED,
            bos=len(tokenizer),
            pad=len(tokenizer) + 1,
            whitespace=target_spec.whitespace,
            normalization=target_spec.normalization,
            source=source,
            continues=continues,
            source_eos=source is None and kind == "source",
            column=kind,
            separator="",
            **options,
        )

    @cached_property
    def limits(self) -> LengthLimits:
        """The maximum number of tokens of each side."""
        limit = UNBOUNDED if self.limit is None else self.limit
        most = limit if self.max_completion is None else self.max_completion
        return LengthLimits(self.max_prompt, most, self.truncation)

    @cached_property
    def encoder(self) -> RowEncoder:
        """The encoder from text to tokens."""
        return RowEncoder(
            self.tokenizer,
            self.source,
            continues=self.continues,
            start=self._start,
            eos=self.limit is not None,
            source_eos=self.source_eos,
            block=self.block,
            context=self.context,
            unseen=self._unseen_ids,
        )

    @property
    def _start(self) -> int | None:
        """The token of the tokenizer that stands for the one that cell 0 reads."""
        bos = self.target.bos
        return bos if bos < self.target.actions else self.tokenizer.bos_token_id

    @property
    def prompt_note(self) -> str | None:
        """How to encode prompts elsewhere, if the tokenizer would put tokens after them.

        ByT5, for example, ends every text with eos, after which nothing is continued.
        """
        if not self.continues or self.column == "messages":  # a template has its own ends
            return None
        head, tail = self.encoder.sources.frame
        if not tail:
            return None
        names = " ".join(map(str, self.encoder.sources.tokenizer.convert_ids_to_tokens(tail)))
        how = f"without its last {len(tail)} tokens" if head else "with `add_special_tokens=False`"
        return (
            f"The tokenizer puts {names} after every text, but not here after prompts: for "
            f"`generate` and `pipeline`, encode a prompt {how}."
        )

    @property
    def shared(self) -> bool:  # type: ignore[override]  # of this kind, it depends on the codec
        """Whether sources use the tokens of targets."""
        return self.source is None

    @property
    def factors(self) -> tuple[int, ...]:
        """A position of the source has one token."""
        if self.source is not None:
            return (len(self.source) + 2,)  # bos and padding have ids on this side, too
        if self.bos is not None and self.bos >= self.target.actions:
            return (self.target.without_backspace().size,)
        return (self.target.actions,)

    def with_backspace(self) -> TextCodec:
        """Return the same codec with a backspace; itself, if it has one.

        If running text is cut into blocks, outputs may then be 1.5 times as long.

        Raises:
            ValueError: if outputs have no eos, or the tokenizer has a token of that name for
                something else.
        """
        found = cast(TextCodec, super().with_backspace())
        if found is not self and self.block is not None and self.limit == self.block:
            return dataclasses.replace(found, limit=self.block + self.block // 2)
        return found

    def encode(self, rows: Iterable[Row], name: str = "the data") -> TextExamples:
        """Encode rows: mappings, such as those of a Dataset of the `datasets` library.

        They have the columns `prompt` and `completion` (text, or messages), `messages` (the last
        one, the assistant's, is the completion), `source` and `target` (text), `text` (running
        text, cut into blocks; at most as many as in the column `blocks`, if there is one), or
        `input_ids` and `labels` (tokens, with -100 on those that are not learned, see
        `split_labels`). The column `references` may have other right targets, with which metrics
        compare outputs as well. Other columns are ignored.

        Args:
            rows: the rows.
            name: where they come from, for messages.

        Raises:
            DataError: if a row cannot be encoded. The message names it, counted from 0.
        """
        rows = list_rows(rows)
        encoded, notes = self._encode_rows(rows, name)
        kept = self.limits.apply(encoded, self._special)
        return TextExamples(
            Ragged.from_rows([row.prompt for row in kept], self._source_pad),
            Ragged.from_rows([row.completion for row in kept], self.target.pad),
            eos=self.limit is not None,
            texts=[row.text for row in kept],
            notes=[*notes, *self._note_unseen_sources(kept), *self.limits.describe(encoded)],
            end=-1 if self.target.eos is None else self.target.eos,
            unseen=self._find_unseen_targets(kept),
            others=self._encode_others(rows, name),
        )

    def _encode_others(self, rows: Sequence[Row], name: str) -> list[TextExamples]:
        """Encode the other references of rows, if there are any (see `TextExamples.others`)."""
        most = max(len(row.get(REFERENCES) or ()) for row in rows)
        if most and self.truncation == "drop":
            raise DataError(
                f"{name}: truncation=drop leaves out rows, which may not have several references"
            )
        whole = dataclasses.replace(self, max_prompt=None, max_completion=None, truncation="error")
        return [whole.encode(choose_reference(rows, i, name), name) for i in range(most)]

    def encode_sources(
        self, rows: Iterable[Row], name: str = "the data", kind: str | None = None
    ) -> StoredExamples:
        """Encode rows without completions, to predict from.

        Args:
            rows: the rows, with the first column of one of `ROW_COLUMNS`.
            name: where they come from, for messages.
            kind: the name of that column; None for that of the first row.

        Raises:
            DataError: if a row cannot be encoded. The message names it.
        """
        rows = list_rows(rows)
        places = name_rows(rows, name)
        prompts = self._encode_prompts(
            rows, places, kind or find_kind(rows[0], places[0], targets=False)
        )
        cut = [
            self.limits.truncate_prompt(prompt, where, self._special)
            for prompt, where in zip(prompts, places, strict=True)
        ]
        empty = Ragged.from_rows([[] for _ in rows], self.target.pad)
        lines = [row.get("lines", ()) for row in rows]
        return StoredExamples(
            Ragged.from_rows(cut, self._source_pad), empty, eos=False, lines=lines
        )

    def read(self, lines: Sequence[str], name: str) -> StoredExamples:
        """Read prompts: one per line, or one JSON object per line with columns of `ROW_COLUMNS`.

        Raises:
            DataError: if a line is empty or no such object, or a prompt is too long or has no
                tokens.
        """
        rows, kind = parse_lines(lines, name, self.column)
        return self.encode_sources(rows, name, kind)

    def write(self, tokens: Sequence[int], lines: Sequence[str]) -> str:
        r"""Return the completion in one line, with `\n` for its line breaks.

        If the line was a JSON object, it is that object with the completion in its column.
        """
        found = complete_line(lines, self.normalize(self.decode(tokens)), self.column)
        return self.text(tokens) if found is None else found

    def source_text(self, values: Tensor) -> str:
        """Return the text of a prompt, in one line."""
        text = decode_tokens(self.source or self.tokenizer, values.tolist(), UNKNOWN)
        return self.join_lines(text)

    def save_pretrained(self, directory: str) -> None:
        """Write codec.json and the files of the tokenizers into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(directory)
        path, special = Path(directory, SOURCE_TOKENIZER), None
        path.unlink(missing_ok=True)
        if self.source is not None:
            write(path, cast(Any, self.source).backend_tokenizer.to_str())
            special = {name: str(token) for name, token in self.source.special_tokens_map.items()}
        write_fields(self, directory, tokenizer=..., source=special)

    @classmethod
    def from_pretrained(cls, directory: str) -> TextCodec:
        """Load the codec in `directory`. Custom code of a tokenizer is never run.

        Raises:
            DataError: if there is none, it is of another kind, a tokenizer is missing, or a
                field is missing, unknown or of the wrong type.
        """
        path, settings = read_fields(cls, directory, tokenizer=..., source=dict[str, Any] | None)
        special = settings.pop("source")
        if special is not None:
            settings["source"] = load_tokenizer(str(Path(directory, SOURCE_TOKENIZER)), **special)
        return build_codec(cls, path, tokenizer=load_saved_tokenizer(directory), **settings)

    @property
    def _source_pad(self) -> int:
        """The token that fills shorter sources; it has an embedding, unlike a new backspace."""
        last = self.factors[0] - 1
        return min(self.target.pad, last) if self.source is None else last

    @cached_property
    def _special(self) -> frozenset[int]:
        """Tokens that remain at the ends of a truncated prompt."""
        return special_ids(self.source or self.tokenizer)

    @property
    def _unseen_ids(self) -> tuple[int | None, int | None]:
        """The ids of symbols of sources and of targets that closed tokens lack.

        This is the id of padding, which is marked by masks: a model has an embedding for it, but
        cannot write it. None if it is an action, or sources have no padding token.
        """
        if self.target.pad < self.target.actions:
            return None, None
        return self._source_pad, self.target.pad

    def _find_unseen_targets(self, rows: Sequence[EncodedRow]) -> list[str]:
        """Return messages on the rows whose targets have symbols that cannot be written."""
        actions, side = self.target.actions, self.encoder.targets
        if self._unseen_ids[1] is None:
            return []
        return [
            side.describe_unseen(row.text, row.where)
            for row in rows
            if max(row.completion) >= actions
        ]

    def _note_unseen_sources(self, rows: Sequence[EncodedRow]) -> list[str]:
        """Return a note on sources with symbols that are not in training."""
        unseen = self._unseen_ids[0]
        count = 0 if unseen is None else sum(unseen in row.prompt for row in rows)
        return [f"{count} of {len(rows)} sources have symbols that are unknown"] if count else []

    def _note_special_texts(self, pairs: Sequence[PromptPair]) -> list[str]:
        """Return a note on texts that spell special tokens."""
        pattern = find_special_text(self.tokenizer)
        if pattern is None or is_closed(self.tokenizer):
            return []
        texts = ((pair.prompt, pair.completion) for pair in pairs)
        found = [
            match[0]
            for sides in texts
            if (match := pattern.search("\n".join(t for t in sides if isinstance(t, str))))
        ]
        if not found:
            return []
        names = ", ".join(repr(name) for name, _ in Counter(found).most_common(3))
        return [
            f"{len(found)} of {len(pairs)} texts spell special tokens ({names}), which were read "
            "as plain text; messages and input_ids can hold the tokens themselves"
        ]

    def _note_endless(self, rows: Sequence[EncodedRow]) -> list[str]:
        """Return a note on rows of tokens that do not end in eos."""
        eos = self.target.eos
        count = sum(row.completion[-1] != eos for row in rows) if eos is not None else 0
        if not count:
            return []
        return [
            f"the labels of {count} of {len(rows)} rows do not end in eos, "
            f"{self.tokenizer.eos_token!r}; they teach no end of an output"
        ]

    def _encode_rows(self, rows: list[Row], name: str) -> tuple[list[EncodedRow], list[str]]:
        """Encode rows without truncating them; also return notes on them."""
        if not rows:
            raise DataError(f"{name}: there are no rows")
        places = name_rows(rows, name)
        kind = find_kind(rows[0], name)
        if self.block is not None and kind != "text":
            raise DataError(f"{name}: block has no effect on rows of {kind}; leave it out")
        if kind == "input_ids":
            encoded = self.encoder.encode(self._split_labels(rows, places))
            return encoded, self._note_endless(encoded)
        separator = self.separator if self.continues else ""
        blank = self.whitespace == "kept"
        pairs = make_pairs(rows, places, kind, separator=separator, blank=blank)
        notes = self._note_special_texts(pairs)
        if kind != "text":
            return self.encoder.encode(pairs), notes
        pieces = self.encoder.encode_blocks(pairs)
        short = sum(not each for each in pieces)
        if short == len(pieces):
            raise DataError(
                f"{name}: no text has more than {self.context} tokens, the length of a prompt"
            )
        if short:
            notes.append(
                f"{short} of {len(pieces)} texts were left out: they have at most {self.context} "
                "tokens"
            )
        return [piece for each in pieces for piece in each], notes

    def _encode_prompts(self, rows: list[Row], places: list[str], kind: str) -> list[list[int]]:
        """Encode prompts alone."""
        if kind == "input_ids":
            unlabelled = [{name: row[name] for name in row if name != "labels"} for row in rows]
            return self.encoder.encode_prompts(self._split_labels(unlabelled, places))
        separator = self.separator if self.continues else ""
        pairs = make_pairs(rows, places, kind, separator=separator, targets=False)
        if kind == "text":
            return self.encoder.encode_beginnings(pairs)
        return self.encoder.encode_prompts(pairs)

    def _split_labels(self, rows: Sequence[Row], places: Sequence[str]) -> list[Any]:
        size, pad = self.target.actions, self.target.pad
        return [
            split_labels(row, where, pad=pad, size=size, causal=self.continues)
            for row, where in zip(rows, places, strict=True)
        ]


def _texts_of_column(rows: Sequence[Row], column: str) -> list[str]:
    """Return the texts of a column; other values are left to `make_pairs`, which refuses them."""
    return [text for row in rows if isinstance(text := row.get(column), str)]
