"""The tokenizer of sources or of targets: tokens of texts, without special tokens around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, cast

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from freerun.data.tokens import is_closed, make_splitter, name_closed_kind, special_ids
from freerun.errors import DataError

_AT_ONCE = 4096
"""The number of texts whose encodings are in memory at a time."""


class SideTokenizer:
    """The tokenizer of one side: of sources, or of targets.

    Args:
        tokenizer: the tokenizer.
        target: whether the side is that of targets.
        continues: whether targets continue their sources; if not, they are encoded in the mode for
            targets, which some tokenizers have.
        shared: whether sources are in the tokens of targets.
        unseen: the id of symbols that closed tokens lack; None to refuse them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        target: bool,
        continues: bool = False,
        shared: bool = False,
        unseen: int | None = None,
    ) -> None:
        self.tokenizer, self.unseen = tokenizer, unseen
        self._side = "target" if target else "source"
        self._setting = f"{'target' if target or shared else 'source'}_tokens"
        self._in_target_mode = target and not continues

    def encode(
        self, texts: Sequence[str], places: Sequence[str], *, template: bool = False
    ) -> list[list[int]]:
        """Return the tokens of texts, without the special tokens that a tokenizer adds around them.

        A text that spells a special token, such as "</s>", is plain text, unless a chat template
        wrote it.

        Args:
            texts: the texts.
            places: the name of each in messages.
            template: whether a chat template wrote them.

        Raises:
            DataError: if a text has symbols that closed tokens lack and `unseen` is None, or spells
                a special token that the tokenizer cannot read as text. The message names the place.
        """
        if self._is_closed:
            return [self._look_up(*pair) for pair in zip(texts, places, strict=True)]
        found = self._encode_open(texts, split=not template)
        if not template:
            for tokens, text, where in zip(found, texts, places, strict=True):
                if not self._special.isdisjoint(tokens):
                    names = self.tokenizer.convert_ids_to_tokens(sorted(self._special & {*tokens}))
                    raise DataError(f"{where}: {_describe_special(names[0], text)}")
        return found

    def _encode_open(self, texts: Sequence[str], *, split: bool) -> list[list[int]]:
        """Encode texts with a tokenizer that can encode any text.

        Args:
            texts: the texts.
            split: whether text that spells a special token is plain text.
        """
        split = split or getattr(self.tokenizer, "split_special_tokens", False)
        plain = type(self.tokenizer) is PreTrainedTokenizerFast  # it has no mode for targets
        if not self.tokenizer.is_fast or (self._in_target_mode and not plain):
            side = {self._argument: list(texts)}
            options = {"add_special_tokens": False, "split_special_tokens": split}
            found = self.tokenizer(**side, **options, verbose=False) if texts else {"input_ids": []}
            return cast(list[list[int]], found["input_ids"])
        # This does the same as calling the transformers tokenizer, in half the time, because it
        # does not build a dictionary of masks and offsets for every text. Padding, truncation and
        # the reading of special tokens are state of the Rust object, so they are set here.
        inner = cast(Any, self.tokenizer).backend_tokenizer
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = split
        # Its results are large, so texts are encoded in parts.
        return [
            each.ids
            for start in range(0, len(texts), _AT_ONCE)
            for each in inner.encode_batch_fast(
                texts[start : start + _AT_ONCE], add_special_tokens=False
            )
        ]

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer adds before and after a text.

        Tokenizers do not list them, so a text is encoded with and without them.
        """
        some = (self.tokenizer.decode([token]) for token in range(min(len(self.tokenizer), 50)))
        for text in ("a", "1", *some):
            if self._is_closed and self.find_unseen(text) is not None:
                continue
            (inner,) = self.encode([text], [""], template=True)
            found = self.tokenizer(**{self._argument: text}, verbose=False)
            whole = cast(list[int], found["input_ids"])
            for i in range(len(whole) - len(inner) + 1) if inner else ():
                if whole[i : i + len(inner)] == inner:
                    return whole[:i], whole[i + len(inner) :]
        return [], []

    def find_unseen(self, text: str) -> str | None:
        """Return a symbol of a text that closed tokens lack, if there is one."""
        return next((symbol for symbol in self._split(text) if symbol not in self._ids), None)

    def describe_unseen(self, text: str, where: str) -> str:
        """Return a message on a symbol that closed tokens lack."""
        kind = name_closed_kind(self._inner)
        known = ("" if kind == "characters" else ", ").join(sorted(self._ids))
        return (
            f"{where}: the {self._side} has {self.find_unseen(text)!r}, which the training data "
            f"does not have; it has {known!r:.300} (to read others as <unk>, set {self._setting} "
            f'to "{kind}+unk")'
        )

    def describe_all_unseen(
        self, texts: Sequence[str], places: Sequence[str], tokens: Sequence[Sequence[int]]
    ) -> list[str]:
        """Return a message on each text whose tokens have the id of unseen symbols."""
        return [
            self.describe_unseen(text, where)
            for text, where, ids in zip(texts, places, tokens, strict=True)
            if self.unseen in ids
        ]

    def _look_up(self, text: str, where: str) -> list[int]:
        """Encode a text with closed tokens, whose tokenizers would drop unknown symbols."""
        symbols, ids = self._split(text), self._ids
        try:
            return [ids[symbol] for symbol in symbols]
        except KeyError:
            if self.unseen is None:
                raise DataError(self.describe_unseen(text, where)) from None
            return [ids.get(symbol, self.unseen) for symbol in self._split(text)]

    @cached_property
    def _is_closed(self) -> bool:
        return is_closed(self.tokenizer)

    @cached_property
    def _special(self) -> frozenset[int]:
        return special_ids(self.tokenizer)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return dict(self._inner.get_vocab(with_added_tokens=False))

    @cached_property
    def _split(self) -> Callable[[str], Iterable[str]]:
        return make_splitter(self._inner)

    @property
    def _argument(self) -> str:
        """The argument of the tokenizer that takes the texts."""
        return "text_target" if self._in_target_mode else "text"

    @property
    def _inner(self) -> Any:
        return cast(Any, self.tokenizer).backend_tokenizer


def _describe_special(name: str, text: str) -> str:
    """Return what is wrong with a text that a tokenizer reads as a special token."""
    if name in text:
        return (
            f"the text spells {name!r}, a special token, which the tokenizer does not read as "
            "text; leave it out"
        )
    return f"the tokenizer reads characters that it does not know as {name!r}, a special token"


def find_special_text(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Return a pattern of texts that spell a special token; None if there is none."""
    names = sorted({*tokenizer.all_special_tokens}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None
