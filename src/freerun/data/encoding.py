"""Prompts and completions as the tokens of a tokenizer: seams, frames, chat templates, blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from freerun.data.rows import Message, PromptPair
from freerun.data.tokens import decode_tokens, is_closed, make_splitter
from freerun.errors import DataError

TEXT, MESSAGES, TOKENS, RUNNING = "text", "messages", "tokens", "running text"
"""What a prompt may be made of."""

_AT_ONCE = 4096
_ANCHORS = ("\n", "|", ".", "0", "a")


@dataclass(frozen=True)
class EncodedRow:
    """A prompt and a completion as tokens.

    Args:
        where: the row or line that they come from, for messages.
        prompt: the tokens that are read.
        completion: the tokens to be written, with eos unless the text was cut off.
        text: the text of the completion as it was read, without what a tokenizer adds.
    """

    where: str
    prompt: list[int]
    completion: list[int]
    text: str


class SideTokenizer:
    """The tokenizer of one side: of sources, or of targets.

    Args:
        tokenizer: the tokenizer.
        target: whether the side is that of targets. Some tokenizers have a mode for them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, target: bool) -> None:
        self.tokenizer, self.target = tokenizer, target

    def encode(self, texts: Sequence[str], places: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, without the special tokens a tokenizer puts around them.

        Raises:
            DataError: if a text has symbols that closed tokens do not have; it names the place.
        """
        self._check(texts, places)
        plain = type(self.tokenizer) is PreTrainedTokenizerFast  # it has no mode for targets
        if not self.tokenizer.is_fast or (self.target and not plain):
            side = {"text_target" if self.target else "text": list(texts)}
            found = self.tokenizer(**side, add_special_tokens=False, verbose=False)
            return cast(list[list[int]], found["input_ids"])
        # This is what transformers does when it is called, in half the time: it does not build a
        # dictionary of masks and offsets for every text. Padding, truncation and the reading of
        # special tokens are state of the Rust object, which whoever called it last has set.
        inner = cast(Any, self.tokenizer).backend_tokenizer
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = getattr(self.tokenizer, "split_special_tokens", False)
        # Its results are large, so they are not kept for all texts at a time.
        return [
            each.ids
            for start in range(0, len(texts), _AT_ONCE)
            for each in inner.encode_batch_fast(
                texts[start : start + _AT_ONCE], add_special_tokens=False
            )
        ]

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a text.

        No tokenizer says so, therefore a text is encoded with and without them.
        """
        some = (self.tokenizer.decode([token]) for token in range(min(len(self.tokenizer), 50)))
        for text in ("a", "1", *some):
            if self._missing(text) is not None:
                continue
            (inner,) = self.encode([text], [""])
            side = {"text_target" if self.target else "text": text}
            whole = cast(list[int], self.tokenizer(**side, verbose=False)["input_ids"])
            for i in range(len(whole) - len(inner) + 1) if inner else ():
                if whole[i : i + len(inner)] == inner:
                    return whole[:i], whole[i + len(inner) :]
        return [], []

    def _check(self, texts: Sequence[str], places: Sequence[str]) -> None:
        """Check that closed tokens can write all texts: their tokenizers drop what they lack."""
        if not is_closed(self.tokenizer):
            return
        for text, where in zip(texts, places, strict=True):
            missing = self._missing(text)
            if missing is None:
                continue
            kind = "characters" if all(len(symbol) == 1 for symbol in self._known) else "symbols"
            known = ("" if kind == "characters" else ", ").join(sorted(self._known))
            raise DataError(
                f"{where}: the {'target' if self.target else 'source'} has {missing!r}, which the "
                f"training data does not have; it has {known!r:.300} (the tokens {kind}+unk read "
                "others as <unk>)"
            )

    def _missing(self, text: str) -> str | None:
        """Return a symbol of a text that closed tokens do not have, if there is one."""
        if not is_closed(self.tokenizer):
            return None
        symbols = self._split(text)
        if self._known.issuperset(symbols):
            return None
        return next(symbol for symbol in symbols if symbol not in self._known)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._inner.get_vocab(with_added_tokens=False))

    @cached_property
    def _split(self) -> Any:
        return make_splitter(self._inner)

    @property
    def _inner(self) -> Any:
        return cast(Any, self.tokenizer).backend_tokenizer


@dataclass(frozen=True, eq=False)
class RowEncoder:
    """Makes tokens of text and conversations.

    Args:
        tokenizer: the tokenizer of targets, and of sources unless `source` is given.
        source: the tokenizer of sources, if they have one of their own.
        continues: whether completions continue their prompts, in one text; else they are targets
            of their own.
        eos: whether completions end in eos; else they are as long as their prompts.
        source_eos: whether sources end in eos, if targets do not continue them.
        block: the maximum number of tokens of a block of running text; None leaves it whole.
        context: the number of tokens of running text that are the prompt of a block; None for the
            one token before it.
    """

    tokenizer: PreTrainedTokenizerBase
    source: PreTrainedTokenizerBase | None = None
    continues: bool = True
    eos: bool = True
    source_eos: bool = False
    block: int | None = None
    context: int | None = None

    def encode(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Return the tokens of prompts and completions, all of one form.

        Raises:
            DataError: if a row cannot be encoded; it is named.
        """
        for pair in pairs:
            if _form(pair) != _form(pairs[0]):
                raise DataError(
                    f"{pair.where}: it has {_form(pair)}, and {pairs[0].where} has "
                    f"{_form(pairs[0])}; all rows must have the same"
                )
        form = _form(pairs[0]) if pairs else TEXT
        if form == TEXT:
            return self._encode_continued(pairs) if self.continues else self._encode_apart(pairs)
        if form == TOKENS:
            return [self._encode_tokens(pair) for pair in pairs]
        if form == MESSAGES:
            return [self._encode_messages(pair) for pair in pairs]
        return [block for blocks in self.encode_blocks(pairs) for block in blocks]

    def encode_prompts(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of prompts alone.

        Raises:
            DataError: if a prompt has none; its row is named.
        """
        form = _form(pairs[0]) if pairs else TEXT
        if form == TOKENS:
            found = [cast(list[int], pair.prompt) for pair in pairs]
        elif form == MESSAGES:
            texts = [self._apply_template(pair, None) for pair in pairs]
            found = self.sources.encode(texts, _places(pairs))
        else:
            found = self._encode_sources(pairs)
        return [_check_prompt(tokens, pair) for tokens, pair in zip(found, pairs, strict=True)]

    def encode_beginnings(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of running text to be continued, which begin as in training."""
        texts = self.sources.encode([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*self._opening, *tokens] for tokens in texts]

    def encode_blocks(self, pairs: Sequence[PromptPair]) -> list[list[EncodedRow]]:
        """Return the blocks of running texts: each token behind the first prompt is in one of them.

        The prompt of a block is what stands before it. A text that has no more tokens than a prompt
        has no blocks.

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
        # A completion that continues its prompt is the same text, so it is read in the same mode.
        return SideTokenizer(self.tokenizer, target=not self.continues)

    @cached_property
    def sources(self) -> SideTokenizer:
        """The tokenizer of sources."""
        return SideTokenizer(self.source or self.tokenizer, target=False)

    def _encode_sources(self, pairs: Sequence[PromptPair]) -> list[list[int]]:
        """Return the tokens of prompts that are text, with the special tokens around them."""
        head, tail = self.sources.frame
        if self.continues:
            tail = []
        elif self.source_eos:
            tail = [*tail, self._eos]
        texts = self.sources.encode([str(pair.prompt) for pair in pairs], _places(pairs))
        return [[*head, *tokens, *tail] for tokens in texts]

    def _encode_apart(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Encode sources and targets, each by itself."""
        head, tail = self.targets.frame
        texts = self.targets.encode([str(pair.completion) for pair in pairs], _places(pairs))
        return [
            self._make_row(pair, prompt, [*head, *tokens, *tail])
            for pair, prompt, tokens in zip(pairs, self._encode_sources(pairs), texts, strict=True)
        ]

    def _encode_continued(self, pairs: Sequence[PromptPair]) -> list[EncodedRow]:
        """Encode prompts, and completions as they continue them."""
        head, _ = self.sources.frame
        prompts = [str(pair.prompt) for pair in pairs]
        completions = [str(pair.completion) for pair in pairs]
        sides = self._encode_seams(prompts, completions, _places(pairs))
        return [
            self._make_row(pair, [*head, *prompt], completion)
            for pair, (prompt, completion) in zip(pairs, sides, strict=True)
        ]

    def _encode_seams(
        self, prompts: Sequence[str], completions: Sequence[str], places: Sequence[str]
    ) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of prompts, and of the completions behind them.

        When the model runs, a prompt stands alone and has its own tokens, so it must have the same
        in training. The tokens of the whole text mostly begin with them; what follows is the
        completion. Otherwise a token runs across the seam, as when a prompt ends in a space that
        the first word of the completion would take, and the completion is encoded by itself.
        """
        texts = [f"{one}{other}" for one, other in zip(prompts, completions, strict=True)]
        whole = self.sources.encode(texts, places)
        heads = self.sources.encode(prompts, places)
        rests = [both[len(head) :] for head, both in zip(heads, whole, strict=True)]
        across = [i for i, both in enumerate(whole) if both[: len(heads[i])] != heads[i]]
        anchors = () if is_closed(self.sources.tokenizer) else _ANCHORS
        # A tokenizer may put a space before any text, which would then stand at the seam. It puts
        # none behind a character that does not become one token with the completion's first.
        for anchor in ("", *anchors):
            found = self._encode_behind(anchor, [completions[i] for i in across])
            remaining = []
            for i, rest in zip(across, found, strict=True):
                exact = rest is not None and self._decode([*heads[i], *rest]) == self._decode(
                    whole[i]
                )
                if rest is not None and (exact or not anchor):
                    rests[i] = rest
                if not exact:
                    remaining.append(i)
            across = remaining
        return list(zip(heads, rests, strict=True))

    def _encode_behind(self, anchor: str, completions: Sequence[str]) -> list[list[int] | None]:
        """Return the tokens of completions behind another text, None if that has others then."""
        if not completions:
            return []
        texts = [f"{anchor}{completion}" for completion in completions]
        head, *rows = self.sources.encode([anchor, *texts], [""] * (len(texts) + 1))
        return [row[len(head) :] if row[: len(head)] == head else None for row in rows]

    def _make_row(self, pair: PromptPair, prompt: list[int], completion: list[int]) -> EncodedRow:
        prompt = _check_prompt(prompt, pair)
        completion = self._end(completion, pair.where)
        if not self.eos and len(prompt) != len(completion):
            raise DataError(
                f"{pair.where}: the source has {len(prompt)} tokens, and the target "
                f"{len(completion)}; the outputs of this task are as long as their sources"
            )
        return EncodedRow(pair.where, prompt, completion, cast(str, pair.completion))

    def _encode_messages(self, pair: PromptPair) -> EncodedRow:
        turns = [*cast(list[Message], pair.prompt), *cast(list[Message], pair.completion)]
        opening, text = self._apply_template(pair, None), self._apply_template(pair, turns)
        if not text.startswith(opening):
            raise DataError(
                f"{pair.where}: with the answer, the chat template writes something else before "
                "it, so that what is to be learned cannot be told; take another template"
            )
        ((prompt, rest),) = self._encode_seams([opening], [text[len(opening) :]], [pair.where])
        rest = self._end(rest, pair.where)
        return EncodedRow(pair.where, _check_prompt(prompt, pair), rest, self._decode(rest))

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
            return  # nothing but eos is left to write
        size = self.block or len(tokens)
        for start in range(context, len(tokens), size):
            block = tokens[start : start + size]
            prompt = tokens[start - context : start]
            yield EncodedRow(pair.where, prompt, block, self._decode(block))

    def _apply_template(self, pair: PromptPair, turns: list[Message] | None) -> str:
        """Return the text of a conversation, or of its beginning up to the answer."""
        if not self.tokenizer.chat_template:
            raise DataError(
                f"{pair.where}: messages need a chat template, which the tokenizer does not have; "
                "set tokenizer.chat_template, or give text"
            )
        settings = {**pair.template, "tokenize": False, "add_generation_prompt": turns is None}
        try:
            return cast(str, self.tokenizer.apply_chat_template(turns or pair.prompt, **settings))
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(f"{pair.where}: the chat template refuses it ({error})") from None

    def _end(self, tokens: list[int], where: str) -> list[int]:
        """Return tokens up to their eos, which is added if there is none."""
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
        return decode_tokens(self.tokenizer, tokens)

    @cached_property
    def _eos(self) -> int:
        return cast(int, self.tokenizer.eos_token_id)

    @cached_property
    def _opening(self) -> list[int]:
        """What running text begins with."""
        if self.context is not None:  # the first prompt is the beginning of the text itself
            return self.sources.frame[0]
        # The first token of a text is learned, too, so something must stand before it.
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
    """Return what a prompt is made of."""
    if pair.prompt is None:
        return RUNNING
    if isinstance(pair.prompt, str):
        return TEXT
    return TOKENS if not pair.prompt or isinstance(pair.prompt[0], int) else MESSAGES
