"""Encode prompts and completions with tokenizers: text, chat templates, and blocks of text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, cast

from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from freerun.data.chat_templates import apply_template
from freerun.data.rows import Message, PromptPair
from freerun.data.tokens import (
    decode_tokens,
    is_closed,
    make_splitter,
    name_closed_kind,
    special_ids,
)
from freerun.errors import DataError

TEXT, MESSAGES, TOKENS, RUNNING = "text", "messages", "tokens", "running text"
"""The forms that a prompt may have."""

_AT_ONCE = 4096
_ANCHORS = ("\n", "|", ".", "0", "a")


@dataclass(frozen=True)
class EncodedRow:
    """A prompt and a completion as tokens.

    Args:
        where: the row or line from which they come, for messages.
        prompt: the tokens that are read.
        completion: the tokens to be written, with eos unless the text was cut off.
        text: the text of the completion, without special tokens.
    """

    where: str
    prompt: list[int]
    completion: list[int]
    text: str


class SideTokenizer:
    """The tokenizer of one side: of sources, or of targets.

    Args:
        tokenizer: the tokenizer.
        target: whether the side is that of targets, for which some tokenizers have a mode.
        unseen: the id of symbols that closed tokens lack; None to refuse them.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, target: bool, unseen: int | None = None
    ) -> None:
        self.tokenizer, self.target, self.unseen = tokenizer, target, unseen

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
        if not self.tokenizer.is_fast or (self.target and not plain):
            side = {"text_target" if self.target else "text": list(texts)}
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
            side = {"text_target" if self.target else "text": text}
            whole = cast(list[int], self.tokenizer(**side, verbose=False)["input_ids"])
            for i in range(len(whole) - len(inner) + 1) if inner else ():
                if whole[i : i + len(inner)] == inner:
                    return whole[:i], whole[i + len(inner) :]
        return [], []

    def find_unseen(self, text: str) -> str | None:
        """Return a symbol of a text that closed tokens lack, if there is one."""
        return next((symbol for symbol in self._split(text) if symbol not in self._ids), None)

    def describe_unseen(self, text: str, where: str) -> str:
        """Return a message on a symbol that closed tokens lack."""
        side = "target" if self.target else "source"
        kind = name_closed_kind(self._inner)
        known = ("" if kind == "characters" else ", ").join(sorted(self._ids))
        return (
            f"{where}: the {side} has {self.find_unseen(text)!r}, which the training data does not "
            f'have; it has {known!r:.300} (to read others as <unk>, set {side}_tokens to "{kind}'
            '+unk")'
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


@dataclass(frozen=True, eq=False)
class RowEncoder:
    """Encodes text and conversations as tokens.

    Args:
        tokenizer: the tokenizer of targets, and of sources unless `source` is given.
        source: the tokenizer of sources, if they have their own.
        continues: whether completions continue their prompts in one text; if not, they are separate
            targets.
        start: the token that cell 0 reads. A tokenizer that also writes it before every text means
            this token: it is not a part of targets.
        eos: whether completions end in eos; if not, they are as long as their prompts.
        source_eos: whether sources end in eos, if targets do not continue them.
        block: the maximum number of tokens of a block of running text; None for whole texts.
        context: the number of tokens of running text before a block that are its prompt; None for
            one.
        unseen: the ids of symbols of sources and of targets that closed tokens lack; None to refuse
            them.
    """

    tokenizer: PreTrainedTokenizerBase
    source: PreTrainedTokenizerBase | None = None
    continues: bool = True
    start: int | None = None
    eos: bool = True
    source_eos: bool = False
    block: int | None = None
    context: int | None = None
    unseen: tuple[int | None, int | None] = (None, None)

    def encode(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Return the tokens of prompts and completions, all of one form.

        Raises:
            DataError: if a row cannot be encoded. The message names it.
        """
        for pair in pairs:
            if _form(pair) != _form(pairs[0]):
                raise DataError(
                    f"{pair.where}: it has {_form(pair)}, and {pairs[0].where} has "
                    f"{_form(pairs[0])}; all rows must have the same"
                )
        form = _form(pairs[0]) if pairs else TEXT
        if form == TEXT:
            return (
                self._encode_continued(pairs) if self.continues else self._encode_separately(pairs)
            )
        if form == TOKENS:
            return [self._encode_tokens(pair) for pair in pairs]
        if form == MESSAGES:
            return [self._encode_messages(pair) for pair in pairs]
        return [block for blocks in self.encode_blocks(pairs) for block in blocks]

    def encode_prompts(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of prompts alone.

        Raises:
            DataError: if a prompt has none. The message names its row.
        """
        form = _form(pairs[0]) if pairs else TEXT
        if form == TOKENS:
            found = [cast(list[int], pair.prompt) for pair in pairs]
        elif form == MESSAGES:
            for pair in pairs:
                self._check_messages([pair.prompt, dict(pair.template)], pair.where)
            texts = [self._apply_template(pair, None) for pair in pairs]
            found = self.sources.encode(texts, _places(pairs), template=True)
        else:
            found = self._encode_sources(pairs)
        return [_check_prompt(tokens, pair) for tokens, pair in zip(found, pairs, strict=True)]

    def encode_beginnings(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of running text to continue, with the same beginning as in training."""
        texts = self.sources.encode([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*self._opening, *tokens] for tokens in texts]

    def encode_blocks(self, pairs: Sequence[PromptPair]) -> list[list[EncodedRow]]:
        """Return the blocks of running texts: each token after the first prompt is in one block.

        The prompt of a block are the tokens before it. A text without more tokens than a prompt has
        no blocks.

        Raises:
            DataError: if completions do not continue prompts, or a text cannot be encoded.
        """
        if not self.continues:
            raise DataError(
                f"{pairs[0].where}: text without a prompt is for causal models; an encoder-decoder "
                "needs source and target"
            )
        texts = self.targets.encode([str(pair.completion) for pair in pairs], _places(pairs))
        return [
            list(islice(self._cut_blocks(pair, tokens), pair.blocks))
            for pair, tokens in zip(pairs, texts, strict=True)
        ]

    @cached_property
    def targets(self) -> SideTokenizer:
        """The tokenizer of targets."""
        # A completion that continues its prompt is the same text, so it is encoded in the same
        # mode.
        return SideTokenizer(self.tokenizer, target=not self.continues, unseen=self.unseen[1])

    @cached_property
    def sources(self) -> SideTokenizer:
        """The tokenizer of sources."""
        return SideTokenizer(self.source or self.tokenizer, target=False, unseen=self.unseen[0])

    def _encode_sources(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of text prompts, with the special tokens around them."""
        head, tail = self.sources.frame
        if self.continues:
            tail = []
        elif self.source_eos:
            tail = [*tail, self._eos]
        texts = self.sources.encode([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*head, *tokens, *tail] for tokens in texts]

    def _encode_separately(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Encode sources and targets separately."""
        head, tail = self.targets.frame
        if head[:1] == [self.start]:  # read, not written
            head = head[1:]
        texts = self.targets.encode([str(pair.completion) for pair in pairs], _places(pairs))
        return [
            self._make_row(pair, prompt, [*head, *tokens, *tail])
            for pair, prompt, tokens in zip(pairs, self._encode_sources(pairs), texts, strict=True)
        ]

    def _encode_continued(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Encode prompts, and completions that continue them."""
        head, _ = self.sources.frame
        prompts = [str(pair.prompt) for pair in pairs]
        completions = [str(pair.completion) for pair in pairs]
        sides = self._encode_joined(prompts, completions, _places(pairs))
        return [
            self._make_row(pair, [*head, *prompt], completion)
            for pair, (prompt, completion) in zip(pairs, sides, strict=True)
        ]

    def _encode_joined(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        places: Sequence[str],
        *,
        template: bool = False,
    ) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of prompts, and of the completions after them.

        At inference, a prompt is encoded alone, so it must have the same tokens in training. The
        tokens of the whole text mostly begin with them; the rest is the completion. Otherwise a
        token crosses the boundary, as when a prompt ends in a space that would belong to the first
        word of the completion, and the completion is encoded separately.

        A tokenizer may add a space before any text, and so at the boundary, but not after a
        character that does not merge with the first one of the completion. So the completion is
        encoded after each of several characters, and the tokens that decode most like the whole
        text are used.
        """
        texts = [f"{one}{other}" for one, other in zip(prompts, completions, strict=True)]
        whole = self.sources.encode(texts, places, template=template)
        heads = self.sources.encode(prompts, places, template=template)
        rests = [both[len(head) :] for head, both in zip(heads, whole, strict=True)]
        across = [i for i, both in enumerate(whole) if both[: len(heads[i])] != heads[i]]
        errors: dict[int, float] = dict.fromkeys(across, math.inf)
        for anchor in ("", *_ANCHORS):
            across = [i for i in across if errors[i]]
            found = self._encode_after(
                anchor, [completions[i] for i in across], [places[i] for i in across], template
            )
            for i, rest in zip(across, found, strict=True):
                if rest is None:
                    continue
                # Not all tokenizers preserve a text, so its decoded tokens count as well.
                text, right = self._decode([*heads[i], *rest]), (texts[i], self._decode(whole[i]))
                error = min(Levenshtein.distance(text, other) for other in right)
                if error < errors[i]:
                    errors[i], rests[i] = error, rest
        return list(zip(heads, rests, strict=True))

    def _encode_after(
        self, anchor: str, completions: Sequence[str], places: Sequence[str], template: bool
    ) -> list[list[int] | None]:
        """Return the tokens of completions after another text; None if its own tokens change."""
        if not completions:
            return []
        texts = [f"{anchor}{completion}" for completion in completions]
        head, *rows = self.sources.encode([anchor, *texts], ["", *places], template=template)
        return [row[len(head) :] if row[: len(head)] == head else None for row in rows]

    def _make_row(self, pair: PromptPair, prompt: list[int], completion: list[int]) -> EncodedRow:
        prompt = _check_prompt(prompt, pair)
        self._check_end(str(pair.completion), pair.where)
        completion = self._end(completion, pair.where)
        if not self.eos and len(prompt) != len(completion):
            raise DataError(
                f"{pair.where}: the source has {len(prompt)} tokens, and the target "
                f"{len(completion)}; the outputs of this task are as long as their sources"
            )
        return EncodedRow(pair.where, prompt, completion, cast(str, pair.completion))

    def _check_end(self, completion: str, where: str) -> None:
        """Check that a text does not end with the spelling of the eos that is added after it."""
        eos = str(self.tokenizer.eos_token)
        literal = getattr(self.tokenizer, "split_special_tokens", False)
        if self.eos and not literal and completion.rstrip().endswith(eos):
            raise DataError(
                f"{where}: the completion ends in {eos!r}, which is text here; leave it out: eos "
                "is added behind each completion"
            )

    def _encode_messages(self, pair: PromptPair) -> EncodedRow:
        self._check_messages([pair.prompt, pair.completion, dict(pair.template)], pair.where)
        turns = [*cast(list[Message], pair.prompt), *cast(list[Message], pair.completion)]
        opening, text = self._apply_template(pair, None), self._apply_template(pair, turns)
        if not text.startswith(opening):
            raise DataError(
                f"{pair.where}: with the answer, the chat template writes something else before "
                "it, so the completion cannot be determined; use another template"
            )
        answer = text[len(opening) :]
        ((prompt, rest),) = self._encode_joined([opening], [answer], [pair.where], template=True)
        rest = self._end(rest, pair.where)
        return EncodedRow(pair.where, _check_prompt(prompt, pair), rest, self._decode(rest))

    def _check_messages(self, value: object, where: str) -> None:
        """Check that no message of a conversation spells a special token.

        A chat template writes special tokens and messages into one text, so it would be read as
        one.
        """
        if isinstance(value, str):
            if self._special_text and (match := self._special_text.search(value)):
                raise DataError(
                    f"{where}: a message has {match[0]!r}, a special token, which cannot be "
                    "distinguished from those of the chat template; remove it"
                )
        elif isinstance(value, Mapping):
            self._check_messages([*value.values()], where)
        elif isinstance(value, Sequence):
            for each in value:
                self._check_messages(each, where)

    @cached_property
    def _special_text(self) -> re.Pattern[str] | None:
        return find_special_text(self.tokenizer)

    def _encode_tokens(self, pair: PromptPair) -> EncodedRow:
        prompt, completion = cast(list[int], pair.prompt), cast(list[int], pair.completion)
        if self._eos in completion:
            completion = self._end(completion, pair.where)
        prompt = _check_prompt(prompt, pair)
        return EncodedRow(pair.where, prompt, completion, self._decode(completion))

    def _cut_blocks(self, pair: PromptPair, tokens: list[int]) -> Iterator[EncodedRow]:
        """Yield the blocks of a text."""
        context = 1 if self.context is None else self.context
        tokens = [*self._opening, *self._end(tokens, pair.where)]
        if self.context is not None and len(tokens) - 1 <= context:
            return  # only eos is left to write
        size = self.block or len(tokens)
        for start in range(context, len(tokens), size):
            block = tokens[start : start + size]
            prompt = tokens[start - context : start]
            yield EncodedRow(pair.where, prompt, block, self._decode(block))

    def _apply_template(self, pair: PromptPair, turns: list[Message] | None) -> str:
        """Return the text of a conversation, or of its part before the answer."""
        settings = {**pair.template, "add_generation_prompt": turns is None}
        prompt = cast(list[Message], pair.prompt)
        return apply_template(self.tokenizer, turns or prompt, settings, pair.where)

    def _end(self, tokens: list[int], where: str) -> list[int]:
        """Return tokens up to their eos, which is added if there is none."""
        if self.eos and self._eos in tokens:
            end = tokens.index(self._eos)
            # Chat templates may write a line break after eos, which is never read.
            if self._decode(tokens[end + 1 :]).strip():
                raise DataError(
                    f"{where}: the completion continues after {self.tokenizer.eos_token!r}, which "
                    "ends it"
                )
            tokens = tokens[:end]
        if not tokens:
            raise DataError(f"{where}: the completion has no tokens to learn")
        return [*tokens, self._eos] if self.eos else tokens

    def _decode(self, tokens: Sequence[int]) -> str:
        return decode_tokens(self.tokenizer, tokens)

    @cached_property
    def _eos(self) -> int:
        return cast(int, self.tokenizer.eos_token_id)

    @cached_property
    def _opening(self) -> list[int]:
        """The tokens at the beginning of running text."""
        if self.context is not None:  # the first prompt is the beginning of the text
            return self.sources.frame[0]
        # The first token of a text is learned, too, so there must be a token before it.
        bos = self.tokenizer.bos_token_id
        return [self._eos if bos is None else cast(int, bos)]


def _check_prompt(prompt: list[int], pair: PromptPair) -> list[int]:
    """Return the tokens of a prompt, if there are any."""
    if not prompt:
        raise DataError(f"{pair.where}: the prompt has no tokens")
    return prompt


def _places(pairs: Sequence[PromptPair]) -> list[str]:
    return [pair.where for pair in pairs]


def _form(pair: PromptPair) -> str:
    """Return the form of a prompt."""
    if pair.prompt is None:
        return RUNNING
    if isinstance(pair.prompt, str):
        return TEXT
    return TOKENS if not pair.prompt or isinstance(pair.prompt[0], int) else MESSAGES
