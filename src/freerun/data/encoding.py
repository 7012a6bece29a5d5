"""Encode prompts and completions with tokenizers: text, chat templates, and blocks of text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import cast

from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedTokenizerBase

from freerun.data.chat_templates import apply_template
from freerun.data.rows import Message, PromptPair
from freerun.data.side_tokenizer import SideTokenizer, find_special_text
from freerun.data.tokens import decode_tokens
from freerun.errors import DataError

TEXT, MESSAGES, TOKENS, RUNNING = "text", "messages", "tokens", "running text"
"""The forms that a prompt may have."""

_ANCHORS = ("\n", "|", ".", "0", "a")
"""Characters that a completion is encoded after, where its prompt shares a token with it."""


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
        return SideTokenizer(
            self.tokenizer, target=True, continues=self.continues, unseen=self.unseen[1]
        )

    @cached_property
    def sources(self) -> SideTokenizer:
        """The tokenizer of sources."""
        shared, own = self.source is None, self.source or self.tokenizer
        return SideTokenizer(own, target=False, shared=shared, unseen=self.unseen[0])

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
        # Prompts first: a symbol that is refused in the whole text is then of the completion.
        heads = self.sources.encode(prompts, places, template=template)
        whole = self.targets.encode(texts, places, template=template)
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
