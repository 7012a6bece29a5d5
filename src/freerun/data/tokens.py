"""Tokenizers that are built from training data: characters, symbols, words, byte pairs, bytes."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from freerun.errors import DataError
from freerun.files import read_json
from freerun.settings import did_you_mean
from freerun.vocabulary import BACKSPACE, EOS, UNKNOWN

Kind = Literal["characters", "graphemes", "symbols", "words", "bpe", "bytes", "path"]
Normalization = Literal["none", "nfc", "nfd", "nfkc", "nfkd"]

NORMALIZERS: dict[str, Callable[[], normalizers.Normalizer]] = {
    "nfc": normalizers.NFC,
    "nfd": normalizers.NFD,
    "nfkc": normalizers.NFKC,
    "nfkd": normalizers.NFKD,
}
"""The normalization forms of Unicode."""

JOINER = "￭"
"""Marks the side of a word without a space (a halfwidth black square, U+FFED)."""

BYTES = 256
"""The initial number of tokens of byte-pair encoding: they can represent any text."""

_SPEC = re.compile(r"(?P<kind>[a-z]+)(?P<options>(\+[a-z]+)*)(:(?P<size>\d+))?")
_COUNTED = ("characters", "graphemes", "symbols", "words")
"""The kinds whose tokens are pieces of the training data."""

# A word is a run of letters, digits and inner hyphens, with the marks that combine with them (as in
# हिन्दी and decomposed é), joiners without a width and soft hyphens; what follows an apostrophe in
# it is a word of its own, and so is every other character that is not white space, with its marks:
# "Don't!" is Don 't ! and a flag or a joined emoji is one.
_LETTER = r"[\p{L}\p{N}\p{M}_\u00ad\u200c\u200d\u2060]"
_OTHER = r"[^\p{L}\p{N}\p{M}_\u00ad\u200c\u200d\u2060\s]"
_FLAG = "[\U0001f1e6-\U0001f1ff]"
_ADDED = "[\\p{M}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"  # marks, skin tones, tags of flags
_MARK = rf"(?:{_FLAG}{{2}}|{_OTHER}{_ADDED}*(?:\u200d{_OTHER}{_ADDED}*)*)"
WORD = rf"(?>{_LETTER}+(?:-{_LETTER}+)*|(?<={_LETTER})['’]{_LETTER}+|{_MARK})"
# The empty position after a word without a space. \G keeps the search from starting inside of a
# word, which it would otherwise do if the last words of a text all have spaces after them.
_SEAM = rf"\G\s*(?:{WORD}\s+)*{WORD}\K(?=\S)"
_SEAM_MARK = "\ue000"  # a character of private use


@dataclass(frozen=True)
class Tokens:
    """How text is cut into tokens, for a model without a tokenizer.

    In settings it is one of: `characters` (Unicode code points), `graphemes` (extended grapheme
    clusters, such as a letter with its accents), `symbols` (separated by spaces), `words` (words
    and punctuation marks), `bpe:N` (byte-pair encoding, Sennrich et al. 2016, arXiv 1508.07909),
    `bytes`, or the path of a tokenizer.

    `characters`, `graphemes` and `symbols` alone are closed: they are those in train and dev, and
    no other can be written. `characters:N`, `graphemes:N`, `symbols:N` and `words:N` are the N most
    frequent ones in train, and `characters+unk`, `graphemes+unk`, `symbols+unk` and `words` those
    that occur more than once in train; all others are then read as the token `<unk>`, which never
    counts as a match.

    With `+nfc`, `+nfd`, `+nfkc` or `+nfkd`, as in `words+nfc:8000`, texts are read, written and
    compared in this normalization form of Unicode; otherwise they are not normalized.

    Args:
        kind: one of the above; `path` for an existing tokenizer.
        size: the maximum number of tokens, without special ones.
        unknown: whether unknown tokens are read as `<unk>`.
        alphabet: the characters, in the order of their ids, in place of those of the data.
        lower: whether text is converted to lower case.
        normalization: the normalization form of Unicode to which text is converted.
        path: the directory of a tokenizer, or its tokenizer.json.

    Raises:
        ValueError: if settings contradict each other.
    """

    kind: Kind
    size: int | None = None
    unknown: bool = False
    alphabet: str | None = None
    lower: bool = False
    path: str | None = None
    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        """Check the combination of settings."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown tokens {self.kind!r}")
        least = {"bpe": BYTES + 1}.get(self.kind, 1)
        if self.size is not None and self.size < least:
            raise ValueError(
                f"the number of {self.kind} tokens is {self.size}; it must be at least {least}"
            )
        if self.kind == "bpe" and self.size is None:
            raise ValueError("byte-pair encoding needs a number of tokens, as in bpe:1000")
        if self.size is not None and self.kind in ("bytes", "path"):
            raise ValueError(f"a number of tokens has no effect on {self.kind}")
        if self.unknown and self.kind not in _COUNTED:
            raise ValueError(f"+unk has no effect on {self.kind}, which can write any text")
        if self.normalization not in get_args(Normalization):
            raise ValueError(
                f"normalization is {self.normalization!r}; it must be one of "
                f"{', '.join(get_args(Normalization))}"
            )
        if self.normalization != "none" and self.kind == "path":
            raise ValueError("a tokenizer that is there already has a normalization of its own")
        if self.alphabet is not None and (self.kind != "characters" or self.size):
            raise ValueError("an alphabet is for characters, without a size")

    @classmethod
    def parse(cls, spec: str | Tokens) -> Tokens:
        """Parse a text such as `words:8000`.

        Raises:
            ValueError: if it is neither a kind of tokens nor a path.
        """
        if isinstance(spec, Tokens):
            return spec
        match = _SPEC.fullmatch(spec)
        kinds = [kind for kind in get_args(Kind) if kind != "path"]
        if match and match["kind"] in kinds:
            size = None if match["size"] is None else int(match["size"])
            options = match["options"].split("+")[1:]
            forms = [option for option in options if option != "unk"]
            for option in forms:
                if option not in NORMALIZERS or len(forms) > 1:
                    known = ", ".join(f"+{name}" for name in ("unk", *NORMALIZERS))
                    raise ValueError(f"tokens {spec!r}: +{option} must be one of {known}")
            return cls(
                cast(Kind, match["kind"]),
                size,
                unknown="unk" in options,
                normalization=cast(Normalization, forms[0] if forms else "none"),
            )
        # Whether a path is there shows when it is read: a model that has been trained with it needs
        # it no more.
        if Path(spec).exists() or Path(spec).name != spec or spec.endswith(".json"):
            return cls("path", path=spec)
        known = f"they are one of {', '.join(kinds)}, or the path of a tokenizer"
        nearest = did_you_mean(spec.partition(":")[0], kinds, known)
        end = "" if nearest.endswith(known) else f"; {known}"
        raise ValueError(f"unknown tokens {spec!r}{nearest}{end}")

    @property
    def has_unknown(self) -> bool:
        """Whether there is a token for unknown text, `<unk>`."""
        sized = self.size is not None and self.kind in _COUNTED
        return self.unknown or self.kind == "words" or sized

    @property
    def whitespace(self) -> Literal["kept", "single", "stripped"]:
        """How white space changes if text is encoded and decoded."""
        if self.kind in ("characters", "graphemes", "bytes"):
            return "kept"
        return "stripped" if self.kind == "path" else "single"

    def build(
        self, train: Iterable[str], others: Iterable[str] = (), *, eos: bool = True
    ) -> PreTrainedTokenizerBase:
        """Build the tokenizer of texts; the ids are those of `<unk>` if there is one, tokens, eos.

        Args:
            train: the texts to train on.
            others: texts whose characters or symbols are also known, if these are closed.
            eos: whether there is an eos.

        Raises:
            DataError: if there is no such tokenizer at `path`.
        """
        if self.path is not None:
            return _add_eos(load_tokenizer(self.path)) if eos else load_tokenizer(self.path)
        inner = self._train(train, others)
        special = {"unk_token": UNKNOWN} if self.has_unknown else {}
        if eos:
            special["eos_token"] = EOS
        # A text that contains <eos> or <unk> is plain text.
        return PreTrainedTokenizerFast(
            tokenizer_object=inner,
            clean_up_tokenization_spaces=False,
            split_special_tokens=True,
            **special,
        )

    def _train(self, train: Iterable[str], others: Iterable[str]) -> Tokenizer:
        """Train the tokenizer, without special tokens other than `<unk>`."""
        if self.kind in ("bpe", "bytes"):
            return self._bytes(train)
        inner = self._empty()
        cut = make_splitter(inner)
        known: Sequence[str]
        if self.alphabet is not None:
            known = self.alphabet
        else:
            counts = Counter(piece for text in train for piece in cut(text))
            special = {UNKNOWN, EOS}  # which are not tokens of text
            for piece in special:
                counts.pop(piece, None)
            if not self.has_unknown:
                further = {piece for text in others for piece in cut(text)} - special
                known = sorted({*counts, *further})
            elif self.size is not None:
                known = [piece for piece, _ in counts.most_common(self.size)]
            else:
                known = [piece for piece, count in counts.most_common() if count > 1]
                known = sorted(known) if self.kind in ("characters", "graphemes") else known
        ids = {piece: i for i, piece in enumerate([UNKNOWN] * self.has_unknown + [*known])}
        inner.model = self._model(ids)
        return inner

    def _empty(self) -> Tokenizer:
        """Build the tokenizer of characters, symbols or words, with an empty vocabulary."""
        inner = Tokenizer(self._model({UNKNOWN: 0}))
        steps = self._normalizers()
        if self.kind == "characters":
            inner.decoder = decoders.Fuse()
        elif self.kind == "graphemes":
            inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\X"), "isolated")
            inner.decoder = decoders.Fuse()
        else:
            inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if self.kind == "words":
            steps += [
                normalizers.Replace(Regex(f"[{JOINER}{_SEAM_MARK}]"), "\ufffd"),
                normalizers.Replace(Regex(_SEAM), _SEAM_MARK),
                # The mark is on the side that does not begin with a letter.
                normalizers.Replace(Regex(f"{_SEAM_MARK}(?={_LETTER})"), f"{JOINER} "),
                normalizers.Replace(_SEAM_MARK, f" {JOINER}"),
            ]
            inner.decoder = decoders.Sequence(
                [
                    decoders.WordPiece(prefix=JOINER, cleanup=False),
                    decoders.Fuse(),
                    decoders.Replace(f"{JOINER} ", ""),
                    decoders.Replace(JOINER, ""),
                ]
            )
        if steps:
            inner.normalizer = normalizers.Sequence(steps)
        return inner

    def _normalizers(self) -> list[normalizers.Normalizer]:
        """Return the first steps of normalization."""
        steps: list[normalizers.Normalizer] = []
        if self.normalization != "none":
            steps.append(NORMALIZERS[self.normalization]())
        if self.lower:
            steps.append(normalizers.Lowercase())
        return steps

    def _model(self, ids: dict[str, int]) -> models.Model:
        """Build the model of characters, symbols or words with these ids."""
        if self.kind == "characters":
            # Without merges, byte-pair encoding cuts text into characters, twice as fast as a split
            # at every character.
            unknown = {"unk_token": UNKNOWN} if self.has_unknown else {}
            return models.BPE(ids, [], **unknown)
        return models.WordLevel(ids, unk_token=UNKNOWN)

    def _bytes(self, train: Iterable[str]) -> Tokenizer:
        """Train byte-pair encoding, or build the tokenizer of bytes alone."""
        inner = Tokenizer(models.BPE())
        pairs = self.kind == "bpe"
        steps = self._normalizers()
        if pairs:
            steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        if steps:
            inner.normalizer = normalizers.Sequence(steps)
        # Words include the space before them, even the first one.
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=pairs, use_regex=pairs)
        inner.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if not pairs:
            inner.model = models.BPE({byte: i for i, byte in enumerate(alphabet)}, [])
            return inner
        trainer = trainers.BpeTrainer(
            vocab_size=self.size or 0,
            min_frequency=2,
            initial_alphabet=alphabet,
            show_progress=False,
        )
        inner.train_from_iterator(train, trainer)
        return inner


def make_splitter(tokenizer: Tokenizer) -> Callable[[str], Iterable[str]]:
    """Return a function that cuts text into the symbols that a tokenizer of `Tokens` looks up."""

    def cut(text: str) -> Iterable[str]:
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is None:
            return text
        if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.Split):
            return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        return text.split()

    return cut


def name_closed_kind(tokenizer: Tokenizer) -> Kind:
    """Return the kind of tokens of a tokenizer that is closed."""
    if tokenizer.pre_tokenizer is None:
        return "characters"
    graphemes = isinstance(tokenizer.pre_tokenizer, pre_tokenizers.Split)
    return "graphemes" if graphemes else "symbols"


def is_closed(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a tokenizer is one of `Tokens` that cannot encode unknown symbols."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or tokenizer.unk_token is not None:
        return False
    inner, model = tokenizer.backend_tokenizer, tokenizer.backend_tokenizer.model
    # A pretrained tokenizer may have an unknown token that transformers does not know.
    if (
        getattr(model, "unk_token", None) is not None
        and inner.token_to_id(model.unk_token) is not None
    ):
        return False
    characters = isinstance(model, models.BPE) and inner.pre_tokenizer is None
    symbols = isinstance(model, models.WordLevel)
    return (characters and isinstance(inner.decoder, decoders.Fuse)) or symbols


def decode_tokens(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], unknown: str = UNKNOWN
) -> str:
    """Return the text of tokens without special ones, except the unknown one."""
    unk, special = tokenizer.unk_token_id, special_ids(tokenizer)
    shown = [token for token in tokens if token not in special]
    if shown and max(shown) >= len(tokenizer) and is_closed(tokenizer):
        # Padding stands for symbols of sources and references that the tokenizer lacks.
        names = [unknown if t >= len(tokenizer) else tokenizer.decode([t]) for t in shown]
        fused = isinstance(cast(Any, tokenizer).backend_tokenizer.decoder, decoders.Fuse)
        return ("" if fused else " ").join(names)
    if unk not in shown or unknown == tokenizer.unk_token:
        return cast(str, tokenizer.decode(shown))
    if not tokenizer.is_fast:
        return cast(str, tokenizer.decode(shown)).replace(str(tokenizer.unk_token), unknown)
    symbols = cast(list[str], tokenizer.convert_ids_to_tokens(shown))
    named = [
        unknown if token == unk else symbol for token, symbol in zip(shown, symbols, strict=True)
    ]
    decoder = cast(Any, tokenizer).backend_tokenizer.decoder
    return " ".join(named) if decoder is None else cast(str, decoder.decode(named))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of special tokens, except the unknown one."""
    kept = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}
    return frozenset(tokenizer.all_special_ids) - kept


def add_backspace_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer with one more special token, `BACKSPACE`, its `backspace_token`.

    It is saved and loaded with the tokenizer, as by plain transformers. The tokens of texts do not
    change, except of those that contain the token.

    Args:
        tokenizer: the tokenizer, which is returned itself if it has a `backspace_token`.

    Raises:
        ValueError: if it has a token of that name for something else.
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
    # The list of the class is shared by all tokenizers, so the copy gets its own.
    found.SPECIAL_TOKENS_ATTRIBUTES = [*found.SPECIAL_TOKENS_ATTRIBUTES, "backspace_token"]
    found.backspace_token = BACKSPACE
    return found


def load_tokenizer(path: str, **special: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a directory or a tokenizer.json; its custom code is never run.

    Args:
        path: the directory or the file.
        special: the special tokens of a file by their names in transformers, such as `eos_token`.

    Raises:
        DataError: if there is none.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: there is no such file")
    config = Path(path, "tokenizer_config.json")
    named = read_json(config, DataError).get("tokenizer_class") if config.is_file() else None
    try:
        if Path(path).is_file():
            return PreTrainedTokenizerFast(
                tokenizer_file=path,
                clean_up_tokenization_spaces=False,
                split_special_tokens=True,
                **special,
            )
        # AutoTokenizer also reads config.json, and warns of freerun's own models.
        plain = named in ("PreTrainedTokenizerFast", "TokenizersBackend")
        cls: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
        found: PreTrainedTokenizerBase = cls.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # the Rust library raises plain exceptions
        raise DataError(f"{path}: the tokenizer cannot be read ({error})") from None
    return found


def _add_eos(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Add an eos to a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": EOS})
    return tokenizer
