"""Prompts and completions as the tokens of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from freerun.data.base import DataError
from freerun.data.rows import Message, Pair
from freerun.data.tokens import closed, cutter, decode

TEXT, MESSAGES, TOKENS, RUNNING = "text", "messages", "tokens", "running text"
"""What a prompt may be made of."""

_ANCHORS = ("\n", "|", ".", "0", "a")


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


class Side:
    """The tokens of one side: of sources, or of targets.

    Args:
        tokenizer: the tokenizer of the side.
        target: whether it is that of targets, for which some tokenizers have a mode of their own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, target: bool) -> None:
        self.tokenizer, self.target = tokenizer, target

    @property
    def name(self) -> str:
        """What the side is called in messages."""
        return "target" if self.target else "source"

    def tokens(self, texts: Sequence[str], places: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, without those that the tokenizer puts around them.

        Raises:
            DataError: naming the place of a text that cannot be written in these tokens.
        """
        self._check(texts, places)
        plain = type(self.tokenizer) is PreTrainedTokenizerFast  # which has no mode for targets
        if not self.tokenizer.is_fast or (self.target and not plain):
            side = {"text_target" if self.target else "text": list(texts)}
            found = self.tokenizer(**side, add_special_tokens=False, verbose=False)
            return cast(list[list[int]], found["input_ids"])
        # What the call of transformers does, without its bookkeeping: in half of the time.
        inner = cast(Any, self.tokenizer).backend_tokenizer
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = getattr(self.tokenizer, "split_special_tokens", False)
        # Its results are large, so they are not kept for all texts at a time.
        return [
            each.ids
            for start in range(0, len(texts), 4096)
            for each in inner.encode_batch_fast(
                texts[start : start + 4096], add_special_tokens=False
            )
        ]

    def _check(self, texts: Sequence[str], places: Sequence[str]) -> None:
        """Check that closed tokens can write all texts: their tokenizers drop what they lack."""
        if self._known is None:
            return
        known, cut = self._known
        for text, where in zip(texts, places, strict=True):
            if not known.issuperset(cut(text)):
                piece = next(piece for piece in cut(text) if piece not in known)
                characters = cut("ab") == "ab"
                listed = ("" if characters else ", ").join(sorted(known))
                raise DataError(
                    f"{where}: the {self.name} has {piece!r}, which the training data does not "
                    f"have; it has {listed!r:.300} (the tokens "
                    f"{'characters' if characters else 'symbols'}+unk read others as <unk>)"
                )

    @cached_property
    def _known(self) -> tuple[frozenset[str], Any] | None:
        """Of closed tokens, those that are known, and what cuts a text into them."""
        if not closed(self.tokenizer):
            return None
        inner = cast(Any, self.tokenizer).backend_tokenizer
        return frozenset(inner.get_vocab(with_added_tokens=False)), cutter(inner)

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        known = (self.tokenizer.decode([token]) for token in range(min(len(self.tokenizer), 50)))
        for text in ("a", "1", *known):
            if self._known is not None and not self._known[0].issuperset(self._known[1](text)):
                continue
            (inner,) = self.tokens([text], [""])
            side = {"text_target" if self.target else "text": text}
            whole = cast(list[int], self.tokenizer(**side, verbose=False)["input_ids"])
            for i in range(len(whole) - len(inner) + 1) if inner else ():
                if whole[i : i + len(inner)] == inner:
                    return whole[:i], whole[i + len(inner) :]
        return [], []


@dataclass(frozen=True, eq=False)
class Encoder:
    """From text and conversations to tokens.

    Args:
        tokenizer: the tokenizer of targets, and of sources unless `source` is given.
        source: the tokenizer of sources, where they have one of their own.
        continues: whether completions continue their prompts, in one text; else they are targets
            of their own.
        eos: whether completions end in eos; else they are as long as their prompts.
        source_eos: whether sources end in eos, where targets do not continue them.
        block: the maximum number of tokens of a piece of running text; None leaves it whole.
        context: the number of tokens of running text that are the prompt of a piece; None for the
            one before it.
    """

    tokenizer: PreTrainedTokenizerBase
    source: PreTrainedTokenizerBase | None = None
    continues: bool = True
    eos: bool = True
    source_eos: bool = False
    block: int | None = None
    context: int | None = None

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
            return self._continued(pairs) if self.continues else self._paired(pairs)
        if form == TOKENS:
            return [self._ready(pair) for pair in pairs]
        if form == MESSAGES:
            return [self._conversation(pair) for pair in pairs]
        return [piece for pieces in self.blocks(pairs) for piece in pieces]

    def prompts(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The tokens of prompts alone.

        Raises:
            DataError: naming the row that has none.
        """
        form = _form(pairs[0]) if pairs else TEXT
        if form == TOKENS:
            found = [cast(list[int], pair.prompt) for pair in pairs]
        elif form == MESSAGES:
            found = self.sources.tokens([self._templated(p, None) for p in pairs], _places(pairs))
        else:
            found = self._sources(pairs)
        return [self._filled(prompt, pair.where) for prompt, pair in zip(found, pairs, strict=True)]

    def continuable(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The tokens of running text to be continued, which begin as in training."""
        texts = self.sources.tokens([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*self._opening, *tokens] for tokens in texts]

    def blocks(self, pairs: Sequence[Pair]) -> list[list[Encoded]]:
        """Running text in pieces, in each of which all tokens behind the first prompt come once.

        The prompt of a piece is what stands before it. Of a text with no more tokens than a prompt
        there are none.

        Raises:
            DataError: where completions do not continue prompts, or a text cannot be encoded.
        """
        if not self.continues:
            raise DataError(
                f"{pairs[0].where}: text without a prompt is for causal models; an encoder-decoder "
                "needs source and target"
            )
        texts = self.targets.tokens([str(pair.completion) for pair in pairs], _places(pairs))
        return [
            list(islice(self._cut(pair, tokens), pair.blocks))
            for pair, tokens in zip(pairs, texts, strict=True)
        ]

    @cached_property
    def targets(self) -> Side:
        """The tokens of targets."""
        # What continues a prompt is cut as sources are, by a tokenizer that has a mode for targets.
        return Side(self.tokenizer, target=not self.continues)

    @cached_property
    def sources(self) -> Side:
        """The tokens of sources."""
        return Side(self.source or self.tokenizer, target=False)

    def _sources(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The tokens of prompts that are text, with what stands around them."""
        head, tail = self.sources.frame
        if self.continues:
            tail = []
        elif self.source_eos:
            tail = [*tail, self._eos]
        texts = self.sources.tokens([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*head, *tokens, *tail] for tokens in texts]

    def _paired(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """Sources and targets, each by itself."""
        before, after = self.targets.frame
        texts = self.targets.tokens([str(pair.completion) for pair in pairs], _places(pairs))
        return [
            self._encoded(pair, prompt, [*before, *tokens, *after])
            for pair, prompt, tokens in zip(pairs, self._sources(pairs), texts, strict=True)
        ]

    def _continued(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """Prompts, and completions in the tokens that they have behind these."""
        head, _ = self.sources.frame
        places = _places(pairs)
        prompts = self.sources.tokens([str(pair.prompt) for pair in pairs], places)
        completions = [str(pair.completion) for pair in pairs]
        rests = self._rests(prompts, [str(pair.prompt) for pair in pairs], completions, places)
        return [
            self._encoded(pair, [*head, *prompt], rest)
            for pair, prompt, rest in zip(pairs, prompts, rests, strict=True)
        ]

    def _rests(
        self,
        prompts: Sequence[list[int]],
        befores: Sequence[str],
        completions: Sequence[str],
        places: Sequence[str],
    ) -> list[list[int]]:
        """The tokens of completions behind their prompts.

        When the model runs, a prompt stands alone and has its own tokens, so it must have these in
        training. Mostly the whole text begins with them, and what follows are the tokens of the
        completion. Where a token of the whole runs across the seam, as where a prompt ends in a
        space that the first word of the completion would take, the completion is cut by itself.

        Args:
            prompts: the tokens of the prompts.
            befores: their texts.
            completions: the texts of the completions.
            places: what to call them in messages.
        """
        texts = [f"{one}{other}" for one, other in zip(befores, completions, strict=True)]
        whole = self.sources.tokens(texts, places)
        found = [both[len(prompt) :] for prompt, both in zip(prompts, whole, strict=True)]
        apart = [i for i, both in enumerate(whole) if both[: len(prompts[i])] != prompts[i]]
        # A tokenizer may put a space before any text, which does not belong there. Behind a
        # character that no token joins with the completion, it puts none: so several are tried.
        for anchor in ("",) if closed(self.sources.tokenizer) else ("", *_ANCHORS):
            behind = self._behind(anchor, [completions[i] for i in apart], places)
            left = []
            for i, rest in zip(apart, behind, strict=True):
                if anchor == "":
                    found[i] = rest or []
                fits = rest and self._decode([*prompts[i], *rest]) == self._decode(whole[i])
                if rest and fits:
                    found[i] = rest
                else:
                    left.append(i)
            apart = left
        return found

    def _behind(
        self, anchor: str, completions: Sequence[str], places: Sequence[str]
    ) -> list[list[int] | None]:
        """The tokens of completions behind another text; None where that has other tokens then."""
        if not completions:
            return []
        (head,) = self.sources.tokens([anchor], [""]) if anchor else ([],)
        texts = [f"{anchor}{completion}" for completion in completions]
        rows = self.sources.tokens(texts, [""] * len(texts))
        return [row[len(head) :] if row[: len(head)] == head else None for row in rows]

    def _encoded(self, pair: Pair, prompt: list[int], completion: list[int]) -> Encoded:
        prompt = self._filled(prompt, pair.where)
        completion = self._closed(completion, pair.where)
        if not self.eos and len(prompt) != len(completion):
            raise DataError(
                f"{pair.where}: the source has {len(prompt)} tokens, and the target "
                f"{len(completion)}; the outputs of this task are as long as their sources"
            )
        return Encoded(pair.where, prompt, completion, cast(str, pair.completion))

    def _conversation(self, pair: Pair) -> Encoded:
        turns = [*cast(list[Message], pair.prompt), *cast(list[Message], pair.completion)]
        opening, text = self._templated(pair, None), self._templated(pair, turns)
        if not text.startswith(opening):
            raise DataError(
                f"{pair.where}: with the answer, the chat template writes something else before "
                "it, so that what is to be learnt cannot be told; take another template"
            )
        (prompt,) = self.sources.tokens([opening], [pair.where])
        (rest,) = self._rests([prompt], [opening], [text[len(opening) :]], [pair.where])
        rest = self._closed(rest, pair.where)
        return Encoded(pair.where, self._filled(prompt, pair.where), rest, self._decode(rest))

    def _ready(self, pair: Pair) -> Encoded:
        prompt, completion = cast(list[int], pair.prompt), cast(list[int], pair.completion)
        if self._eos in completion:
            completion = self._closed(completion, pair.where)
        prompt = self._filled(prompt, pair.where)
        return Encoded(pair.where, prompt, completion, self._decode(completion))

    def _cut(self, pair: Pair, tokens: list[int]) -> Iterator[Encoded]:
        """The pieces of a text."""
        context = 1 if self.context is None else self.context
        tokens = [*self._opening, *self._closed(tokens, pair.where)]
        if self.context is not None and len(tokens) - 1 <= context:
            return
        size = self.block or len(tokens)
        for start in range(context, len(tokens), size):
            block = tokens[start : start + size]
            yield Encoded(pair.where, tokens[start - context : start], block, self._decode(block))

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
        """Tokens up to their eos, which is added where there is none."""
        if self.eos and self._eos in tokens:
            end = tokens.index(self._eos)
            # Chat templates may write a line break behind eos, which nobody will ever read.
            if self._decode(tokens[end + 1 :]).strip():
                raise DataError(
                    f"{where}: the completion goes on after {self.tokenizer.eos_token!r}, which "
                    "ends it"
                )
            tokens = tokens[:end]
        if not tokens:
            raise DataError(f"{where}: the completion has no tokens to learn")
        return [*tokens, self._eos] if self.eos else tokens

    def _decode(self, tokens: Sequence[int]) -> str:
        return decode(self.tokenizer, tokens)

    @cached_property
    def _eos(self) -> int:
        return cast(int, self.tokenizer.eos_token_id)

    @cached_property
    def _opening(self) -> list[int]:
        """What running text begins with: bos, or eos where there is none."""
        if self.context is not None:  # which the first prompt has from the text itself
            return self.sources.frame[0]
        bos = self.tokenizer.bos_token_id
        return [self._eos if bos is None else cast(int, bos)]


def _places(pairs: Sequence[Pair]) -> list[str]:
    return [pair.where for pair in pairs]


def _form(pair: Pair) -> str:
    """What a prompt is made of."""
    if pair.prompt is None:
        return RUNNING
    if isinstance(pair.prompt, str):
        return TEXT
    return TOKENS if not pair.prompt or isinstance(pair.prompt[0], int) else MESSAGES
