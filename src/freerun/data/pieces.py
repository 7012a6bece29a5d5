"""Text as a row of symbols and back: words and punctuation marks, or byte-pair tokens."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from freerun.data.base import DataError
from freerun.data.extras import extra
from freerun.vocabulary import EOS, UNKNOWN

JOINER = "￭"
"""Marks the side of a token that no space stands on (a halfwidth black square, U+FFED)."""

BYTES = 256
"""The tokens that byte-pair encoding begins with: any text can be written in them."""

_TOKEN = re.compile(r"\w+(?:-\w+)*|(?<=\w)['’]\w+|[^\w\s]")


@runtime_checkable
class Pieces(Protocol):
    """A way to cut text into symbols."""

    def split(self, text: str) -> list[str]:
        """The symbols of a text."""
        ...

    def join(self, symbols: Iterable[str]) -> str:
        """The text of symbols, with one space for white space of any kind."""
        ...


class Words:
    """Words and punctuation marks.

    A word is a run of letters, digits and inner hyphens; what follows an apostrophe in it is a word
    of its own, and so is every other character: "Don't!" is Don 't !. That no space stands between
    two of them is marked on the one that begins with no letter: Don ￭'t ￭!. So `join` gives back
    what `split` was given. `<eos>` is no word, and is read as `<unk>`, as is the mark itself.

    Args:
        tokenised: whether words are what stands between spaces already; then nothing is marked.
    """

    def __init__(self, *, tokenised: bool = False) -> None:
        self.tokenised = tokenised

    def split(self, text: str) -> list[str]:
        """The words of a text."""
        if self.tokenised:
            return [UNKNOWN if word == EOS else word for word in text.split()]
        found: list[str] = []
        end = -1
        for match in _TOKEN.finditer(text):
            token = match[0]
            joined = match.start() == end
            end = match.end()
            if joined and (token[0].isalnum() or token[0] == "_"):
                found[-1] += JOINER
            elif joined:
                token = JOINER + token
            found.append(UNKNOWN if match[0] == JOINER else token)
        return found

    def count(self, text: str) -> int:
        """How many words a text has."""
        return len(text.split() if self.tokenised else _TOKEN.findall(text))

    def join(self, symbols: Iterable[str]) -> str:
        """The text of words."""
        text = " ".join(symbols)
        if self.tokenised:
            return text
        return text.replace(f" {JOINER}", "").replace(f"{JOINER} ", "").replace(JOINER, "")


def commonest_words(rows: Iterable[Sequence[str]], size: int) -> tuple[str, ...]:
    """The `size` words that come most often, the commonest first; `<unk>` is none."""
    counts = Counter(word for row in rows for word in row)
    known = [word for word, _ in counts.most_common() if UNKNOWN not in word]
    return tuple(known[:size])


class BytePairs:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) of UTF-8, by `tokenizers`.

    Any text can be read and written, so nothing is unknown. Its symbols write bytes as GPT-2 does,
    a space as Ġ.

    Args:
        symbols: the tokens, in the order of their ids.
        merges: the pairs that were merged, each as two symbols with a space between, the first
            merge first.

    Raises:
        ValueError: where a merge is not of symbols.
        MissingExtraError: where `tokenizers` is not installed.
    """

    def __init__(self, symbols: Sequence[str], merges: Sequence[str]) -> None:
        library = _library()
        pairs = [tuple(merge.split(" ")) for merge in merges]
        known = set(symbols)
        for merge, pair in zip(merges, pairs, strict=True):
            if len(pair) != 2 or not known.issuperset({*pair, "".join(pair)}):
                raise ValueError(f"the merge {merge!r} is not of two symbols, and to a third")
        ids = {symbol: i for i, symbol in enumerate(symbols)}
        self._tokenizer = _tokenizer(library, library.models.BPE(vocab=ids, merges=pairs))
        self._decoder = library.decoders.ByteLevel()

    @staticmethod
    def learn(texts: Iterable[str], size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The symbols and the merges of texts: merged until there are `size` symbols.

        Pairs that come once are not merged, so there may be fewer.

        Raises:
            MissingExtraError: where `tokenizers` is not installed.
        """
        library = _library()
        tokenizer = _tokenizer(library, library.models.BPE())
        alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        model = json.loads(tokenizer.to_str())["model"]
        symbols = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return tuple(symbols), tuple(" ".join(pair) for pair in model["merges"])

    def split(self, text: str) -> list[str]:
        """The tokens of a text."""
        return list(self._tokenizer.encode(" ".join(text.split())).tokens)

    def join(self, symbols: Iterable[str]) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        return " ".join(self.decode(symbols).split())

    def decode(self, symbols: Iterable[str]) -> str:
        """The text of tokens as it stands, with the space before the first word where it has one.

        White space of other kinds is a space, so that it is one line.
        """
        return re.sub(r"\s", " ", str(self._decoder.decode(list(symbols))))


def _library() -> Any:
    return extra("tokenizers", "translation", "byte-pair encoding")


def _tokenizer(library: Any, model: Any) -> Any:
    """A tokenizer that sees words with the space before them, the first as well."""
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def check_left_out(task: Task, names: Sequence[str]) -> None:
    """See that no setting of a task's own tokens is given, where the model has a tokenizer.

    Args:
        task: a task that is a dataclass.
        names: the settings.

    Raises:
        DataError: where one is.
    """
    fields: Any = task
    for field in dataclasses.fields(fields):
        if field.name in names and getattr(task, field.name) != field.default:
            raise DataError(
                f"{task.name}: {field.name} has no effect where the model has a tokenizer; leave "
                "it out"
            )
