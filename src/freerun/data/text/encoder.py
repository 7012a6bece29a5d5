"""Prompts and completions as the tokens of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from freerun.data.base import DataError
from freerun.data.text.columns import Message, Pair

TEXT, MESSAGES, TOKENS, RUNNING = "text", "messages", "tokens", "running text"
"""What a prompt may be made of."""


@dataclass(frozen=True)
class Encoded:
    """A prompt and a completion in tokens.

    Args:
        where: the row or line that they come from, for messages.
        prompt: the tokens that are read.
        completion: the tokens to be written, eos included where they end.
        text: the text of the completion as it was read, without what a tokenizer adds.
    """

    where: str
    prompt: list[int]
    completion: list[int]
    text: str


@dataclass(frozen=True, eq=False)
class Encoder:
    """From text and conversations to tokens, and back.

    Args:
        tokenizer: the tokenizer, which has an eos.
        causal: whether completions continue their prompts; else they are targets of their own.
        block: the most tokens of a piece of running text; None leaves it whole.
    """

    tokenizer: PreTrainedTokenizerBase
    causal: bool
    block: int | None = None

    def encode(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """The tokens of prompts and completions, all of one kind.

        Raises:
            DataError: naming the row that cannot be encoded.
        """
        for pair in pairs:
            if _form(pair) != _form(pairs[0]):
                raise DataError(
                    f"{pair.where}: it has {_form(pair)}, and {pairs[0].where} has "
                    f"{_form(pairs[0])}; all rows must have the same"
                )
        form = _form(pairs[0]) if pairs else TEXT
        if form == TEXT:
            return self._texts(pairs)
        if form == TOKENS:
            return [self._ready(pair) for pair in pairs]
        if form == MESSAGES:
            return [self._conversation(pair) for pair in pairs]
        return [block for pair in pairs for block in self._blocks(pair)]

    def prompts(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The tokens of prompts alone.

        Raises:
            DataError: naming the row that has none.
        """
        return [self._filled(self._prompt(pair), pair.where) for pair in pairs]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones; unknown ones are no such, and are shown."""
        shown = [token for token in tokens if token not in self.special]
        return cast(str, self.tokenizer.decode(shown))

    @cached_property
    def special(self) -> frozenset[int]:
        """The special tokens, but for the unknown one."""
        kept = {self.tokenizer.unk_token_id} - {self.tokenizer.eos_token_id}
        return frozenset(self.tokenizer.all_special_ids) - kept

    def _texts(self, pairs: Sequence[Pair]) -> list[Encoded]:
        prompts = self._bare([pair.prompt for pair in pairs])
        head, tail = self._frame(target=False)
        if not self.causal:
            before, after = self._frame(target=True)
            targets = self._bare([pair.completion for pair in pairs], target=True)
            return [
                self._encoded(pair, [*head, *prompt, *tail], [*before, *target, *after])
                for pair, prompt, target in zip(pairs, prompts, targets, strict=True)
            ]
        whole = self._bare([f"{pair.prompt}{pair.completion}" for pair in pairs])
        found = []
        for pair, prompt, both in zip(pairs, prompts, whole, strict=True):
            rest = both[len(prompt) :]
            if both[: len(prompt)] != prompt:
                # A token runs across the seam, as where a prompt ends in a space that the first
                # word of the completion would take. When the model runs, the prompt stands alone
                # and has its own tokens: so it must in training, and the completion its own.
                (rest,) = self._bare([pair.completion])
            found.append(self._encoded(pair, [*head, *prompt], rest))
        return found

    def _encoded(self, pair: Pair, prompt: list[int], completion: list[int]) -> Encoded:
        prompt = self._filled(prompt, pair.where)
        completion = self._closed(completion, pair.where)
        return Encoded(pair.where, prompt, completion, cast(str, pair.completion))

    def _conversation(self, pair: Pair) -> Encoded:
        turns = [*cast(list[Message], pair.prompt), *cast(list[Message], pair.completion)]
        opening, text = self._templated(pair, None), self._templated(pair, turns)
        if not text.startswith(opening):
            raise DataError(
                f"{pair.where}: with the answer, the chat template writes something else before "
                "it, so that what is to be learnt cannot be told; take another template"
            )
        prompt, both = self._bare([opening, text])
        rest = both[len(prompt) :]
        if both[: len(prompt)] != prompt:  # see `_texts`
            (rest,) = self._bare([text[len(opening) :]])
        rest = self._closed(rest, pair.where)
        return Encoded(pair.where, self._filled(prompt, pair.where), rest, self.decode(rest))

    def _ready(self, pair: Pair) -> Encoded:
        prompt, completion = cast(list[int], pair.prompt), cast(list[int], pair.completion)
        if self.tokenizer.eos_token_id in completion:
            completion = self._closed(completion, pair.where)
        prompt = self._filled(prompt, pair.where)
        return Encoded(pair.where, prompt, completion, self.decode(completion))

    def _blocks(self, pair: Pair) -> list[Encoded]:
        """Running text: every token is learnt once, after the one before it as the prompt."""
        if not self.causal:
            raise DataError(
                f"{pair.where}: text without a prompt is for causal models; an encoder-decoder "
                "needs source and target"
            )
        (tokens,) = self._bare([pair.completion])
        tokens = [self._first, *self._closed(tokens, pair.where)]
        size = self.block or len(tokens)
        found = []
        for start in range(1, len(tokens), size):
            block = tokens[start : start + size]
            found.append(Encoded(pair.where, [tokens[start - 1]], block, self.decode(block)))
        return found

    def _prompt(self, pair: Pair) -> list[int]:
        prompt = pair.prompt
        if isinstance(prompt, str):
            head, tail = self._frame(target=False)
            (tokens,) = self._bare([prompt])
            return [*head, *tokens, *([] if self.causal else tail)]
        if _form(pair) == TOKENS:
            return cast(list[int], prompt)
        (tokens,) = self._bare([self._templated(pair, None)])
        return tokens

    def continued(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of running text to be continued, which begin as in training."""
        return [[self._first, *tokens] for tokens in self._bare(texts)]

    def _templated(self, pair: Pair, turns: list[Message] | None) -> str:
        """What the chat template writes of a conversation, or of its beginning up to the answer."""
        if not self.tokenizer.chat_template:
            raise DataError(
                f"{pair.where}: messages need a chat template, which the tokenizer has not; set "
                "tokenizer.chat_template, or give text"
            )
        settings = {**pair.template, "tokenize": False, "add_generation_prompt": turns is None}
        try:
            return cast(str, self.tokenizer.apply_chat_template(turns or pair.prompt, **settings))
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(f"{pair.where}: the chat template refuses it ({error})") from None

    def _filled(self, prompt: list[int], where: str) -> list[int]:
        if not prompt:
            raise DataError(f"{where}: the prompt has no tokens")
        return prompt

    def _closed(self, tokens: list[int], where: str) -> list[int]:
        """Tokens up to their eos, which is put where there is none."""
        eos = cast(int, self.tokenizer.eos_token_id)
        if eos in tokens:
            end = tokens.index(eos)
            # Chat templates may write a line break behind eos, which nobody will ever read.
            if self.decode(tokens[end + 1 :]).strip():
                raise DataError(
                    f"{where}: the completion goes on after {self.tokenizer.eos_token!r}, which "
                    "ends it"
                )
            tokens = tokens[:end]
        if not tokens:
            raise DataError(f"{where}: the completion has no tokens to learn")
        return [*tokens, eos]

    def _bare(self, texts: Sequence[Any], *, target: bool = False) -> list[list[int]]:
        """The tokens of texts without those that a tokenizer puts around them."""
        side = {"text_target" if target else "text": list(texts)}
        found = self.tokenizer(**side, add_special_tokens=False, verbose=False)
        return cast(list[list[int]], found["input_ids"])

    def _frame(self, *, target: bool) -> tuple[list[int], list[int]]:
        return self._frames[target]

    @cached_property
    def _frames(self) -> dict[bool, tuple[list[int], list[int]]]:
        """What the tokenizer puts before and after a text, of sources and of targets."""
        return {target: self._probed(target) for target in (False, True)}

    def _probed(self, target: bool) -> tuple[list[int], list[int]]:
        known = (self.tokenizer.decode([token]) for token in range(min(len(self.tokenizer), 50)))
        for text in ("a", "1", *known):
            (inner,) = self._bare([text], target=target)
            side = {"text_target" if target else "text": text}
            whole = cast(list[int], self.tokenizer(**side, verbose=False)["input_ids"])
            for i in range(len(whole) - len(inner) + 1) if inner else ():
                if whole[i : i + len(inner)] == inner:
                    return whole[:i], whole[i + len(inner) :]
        return [], []

    @cached_property
    def _first(self) -> int:
        """What running text comes after: bos, or eos where there is none."""
        bos = self.tokenizer.bos_token_id
        return cast(int, self.tokenizer.eos_token_id if bos is None else bos)


def _form(pair: Pair) -> str:
    """What a prompt is made of."""
    if pair.prompt is None:
        return RUNNING
    if isinstance(pair.prompt, str):
        return TEXT
    return TOKENS if not pair.prompt or isinstance(pair.prompt[0], int) else MESSAGES
