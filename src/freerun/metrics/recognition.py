"""Error rates of words and characters, as speech and text recognition report them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

from rapidfuzz.distance import Levenshtein

from freerun.imports import import_extra
from freerun.metrics.base import metric
from freerun.metrics.statistics import Statistics, divide_sums
from freerun.settings import SettingError

Normalize = Callable[[str], str]

NORMALIZERS = ("none", "plain", "whisper", "whisper_english")
"""The normalizers of `wer` and `cer`."""


@cache
def find_normalizer(name: str) -> Normalize:
    """Return a function that normalizes texts before they are compared.

    Args:
        name: `none` for texts as they are; `plain` for lower case without punctuation, as jiwer's
            ToLowerCase and RemovePunctuation; `whisper` and `whisper_english` for the normalizers
            of Whisper (Radford et al. 2022, arXiv 2212.04356, appendix C), for any language and for
            English, by whisper-normalizer.

    Raises:
        SettingError: if there is no such normalizer.
        MissingExtraError: if its library is not installed.
    """
    if name == "none":
        return str
    if name == "plain":
        return _remove_punctuation
    if name == "whisper":
        module = import_extra("whisper_normalizer.basic", "speech", "the normalizer of Whisper")
        return _as_function(module.BasicTextNormalizer())
    if name == "whisper_english":
        module = import_extra("whisper_normalizer.english", "speech", "the normalizer of Whisper")
        return _as_function(module.EnglishTextNormalizer())
    raise SettingError(f"normalizer is {name!r}; it must be one of {', '.join(NORMALIZERS)}")


def _as_function(normalizer: Callable[[str], str]) -> Normalize:
    return lambda text: str(normalizer(text))


def _remove_punctuation(text: str) -> str:
    kept = (char for char in text.lower() if not unicodedata.category(char).startswith("P"))
    return "".join(kept)


def _check(normalizer: str = "none") -> None:
    find_normalizer(normalizer)


def _sign_wer(references: Sequence[str], normalizer: str = "none") -> str:
    return f"wer|normalizer:{normalizer}|words:between white space"


def _sign_cer(references: Sequence[str], normalizer: str = "none") -> str:
    return f"cer|normalizer:{normalizer}|white space:single"


def _count_edits(
    outputs: Sequence[str], references: Sequence[str], cut: Callable[[str], Sequence[str]]
) -> Statistics:
    pairs = ((cut(output), cut(text)) for output, text in zip(outputs, references, strict=True))
    rows = [(Levenshtein.distance(*pair), len(pair[1])) for pair in pairs]
    return Statistics.build(rows, 2, divide_sums)


@metric(greater_is_better=False, sign=_sign_wer, check=_check)
def wer(
    outputs: Sequence[str], references: Sequence[str], *, normalizer: str = "none"
) -> Statistics:
    """Compute the word error rate: edits of words divided by words of references, as jiwer does.

    0 is perfect, over 1 is possible. Words are what stands between white space after normalization.

    Args:
        outputs: the outputs.
        references: one reference for each.
        normalizer: what is done to both before: none, plain (lower case, no punctuation), whisper
            or whisper_english (see `find_normalizer`).

    Raises:
        SettingError: if there is no such normalizer.
        MissingExtraError: if its library is not installed.
    """
    normalize = find_normalizer(normalizer)
    return _count_edits(outputs, references, lambda text: normalize(text).split())


@metric(greater_is_better=False, sign=_sign_cer, check=_check)
def cer(
    outputs: Sequence[str], references: Sequence[str], *, normalizer: str = "none"
) -> Statistics:
    """Compute the character error rate of normalized texts; runs of white space are one space.

    Without a normalizer, it differs from `character_error` only in white space.

    Args:
        outputs: the outputs.
        references: one reference for each.
        normalizer: as in `wer`.

    Raises:
        SettingError: if there is no such normalizer.
        MissingExtraError: if its library is not installed.
    """
    normalize = find_normalizer(normalizer)
    return _count_edits(outputs, references, lambda text: " ".join(normalize(text).split()))
