"""The tokens that a policy reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

EOS = "<eos>"
UNKNOWN = "<unk>"
BACKSPACE = "<backspace>"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one side of a task.

    `symbols[i]` is the text of token i. These are the *actions*, the tokens that may be written:
    logits have one column for each. The actions include `eos` and `backspace` if there are any.
    `bos` and `pad` are only read, and need not be symbols. Padding is marked by masks, and tokens
    are never compared with `pad`, so `pad` may equal `eos`. `unknown` is the action for all symbols
    outside the vocabulary. Two unknown symbols may differ, so it never counts as a match.

    Args:
        symbols: the text of every action.
        bos: the token that is read at the first cell.
        pad: the token that fills shorter rows.
        eos: the action that ends a sequence; None if targets have a fixed length.
        backspace: the action that withdraws the last token, if there is one.
        unknown: the action for symbols outside the vocabulary, if there is one.

    Raises:
        ValueError: if eos, backspace or unknown is not an action, or bos or pad is not a token.
    """

    symbols: tuple[str, ...]
    bos: int
    pad: int
    eos: int | None = None
    backspace: int | None = None
    unknown: int | None = None

    def __post_init__(self) -> None:
        """Check that the special tokens are tokens."""
        for name in ("eos", "backspace", "unknown"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.actions:
                raise ValueError(
                    f"{name} is {token}; it must be an action, 0 to {self.actions - 1}"
                )
        for name in ("bos", "pad"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a token is at least 0")

    @classmethod
    def build(cls, symbols: Iterable[str], *, eos: bool, unknown: bool = False) -> Vocabulary:
        """Build a vocabulary of `symbols` in their order, then eos if there is one, bos and pad.

        Args:
            symbols: the text of the actions.
            eos: whether there is an eos, `EOS`.
            unknown: whether there is a token for other symbols, `UNKNOWN`; it comes first.

        Raises:
            ValueError: if a symbol is repeated.
        """
        symbols = (*([UNKNOWN] if unknown else []), *symbols, *([EOS] if eos else []))
        repeated = sorted(symbol for symbol, times in Counter(symbols).items() if times > 1)
        if repeated:
            raise ValueError(f"the symbol {repeated[0]!r} comes more than once in the vocabulary")
        count = len(symbols)
        return cls(
            symbols,
            bos=count,
            pad=count + 1,
            eos=count - 1 if eos else None,
            unknown=0 if unknown else None,
        )

    def with_backspace(self) -> Vocabulary:
        """Return a copy with one more action, the last: `BACKSPACE`.

        Ids of actions do not change; bos and pad, if they come after the actions, move up by one.

        Raises:
            ValueError: if there is already a backspace, or no eos: outputs of a fixed length cannot
                withdraw tokens.
        """
        if self.backspace is not None:
            raise ValueError("the vocabulary has a backspace already")
        if self.eos is None:
            raise ValueError("without eos there is no backspace: outputs are as long as sources")
        return replace(
            self,
            symbols=(*self.symbols, BACKSPACE),
            bos=self.bos + (self.bos >= self.actions),
            pad=self.pad + (self.pad >= self.actions),
            backspace=self.actions,
        )

    def without_backspace(self) -> Vocabulary:
        """Return a copy without its last action, the backspace; itself if there is none.

        Raises:
            ValueError: if the backspace is another action than the last.
        """
        if self.backspace is None:
            return self
        last = self.actions - 1
        if self.backspace != last:
            raise ValueError(f"backspace is {self.backspace}, but the last action is {last}")
        return replace(
            self,
            symbols=self.symbols[:-1],
            bos=self.bos - (self.bos > last),
            pad=self.pad - (self.pad > last),
            backspace=None,
        )

    @property
    def actions(self) -> int:
        """The number of tokens that can be written, with ids 0 … actions-1."""
        return len(self.symbols)

    @property
    def special(self) -> list[int]:
        """The actions without text: eos, backspace, unknown; bos and pad, if they are actions."""
        names = ("eos", "backspace", "unknown", "bos", "pad")
        found = {getattr(self, name) for name in names} - {None}
        return sorted(token for token in found if token < self.actions)

    @property
    def size(self) -> int:
        """The number of tokens that can be read: the rows of an embedding."""
        return max(self.actions, self.bos + 1, self.pad + 1)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every symbol."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the ids of `symbols`, without eos; the id of `unknown` for unknown ones.

        Raises:
            KeyError: if a symbol is not in the vocabulary, and there is no `unknown`.
        """
        if self.unknown is None:
            return [self.ids[symbol] for symbol in symbols]
        return [self.ids.get(symbol, self.unknown) for symbol in symbols]

    def decode(self, tokens: Sequence[int]) -> list[str]:
        """Return the symbols of `tokens` up to the first eos, which is excluded.

        Other tokens, such as those of symbols that occur only in test references, become `UNKNOWN`.
        """
        written = list(tokens)
        if self.eos in written:
            written = written[: written.index(self.eos)]
        return [self.symbols[token] if 0 <= token < self.actions else UNKNOWN for token in written]
