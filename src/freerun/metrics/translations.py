"""BLEU and chrF, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freerun.imports import import_extra
from freerun.metrics.base import metric


def _library() -> Any:
    return import_extra("sacrebleu.metrics", "translation", "BLEU")


def _bleu(lowercase: bool, tokenize: str) -> Any:
    # `force` keeps back a warning that the text looks tokenized, which is what "none" says.
    force = tokenize == "none"
    return _library().BLEU(lowercase=lowercase, tokenize=tokenize, force=force)


def _chrf(lowercase: bool) -> Any:
    return _library().CHRF(lowercase=lowercase)


def _sign(scorer: Any) -> str:
    # It knows how many references there are only when it has seen some.
    score = scorer.corpus_score(["a"], [["a"]])
    return f"{score.name}|{scorer.get_signature()}"


def _sign_bleu(lowercase: bool = False, tokenize: str = "13a") -> str:
    return _sign(_bleu(lowercase, tokenize))


def _sign_chrf(lowercase: bool = False) -> str:
    return _sign(_chrf(lowercase))


@metric(percent=False, library=("sacrebleu.metrics", "translation"), sign=_sign_bleu)
def bleu(
    outputs: Sequence[str],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> float:
    """Compute BLEU (Papineni et al. 2002) of all outputs together, in [0, 100].

    Args:
        outputs: the outputs.
        references: one reference for each.
        lowercase: whether case is ignored.
        tokenize: the tokenizer of sacrebleu, such as 13a, zh or ja-mecab; `none` splits at spaces.

    Raises:
        MissingExtraError: if sacrebleu is not installed.
    """
    return float(_bleu(lowercase, tokenize).corpus_score(outputs, [references]).score)


@metric(percent=False, library=("sacrebleu.metrics", "translation"), sign=_sign_chrf)
def chrf(outputs: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> float:
    """Compute chrF2 (Popović 2015) of all outputs together, in [0, 100].

    Args:
        outputs: the outputs.
        references: one reference for each.
        lowercase: whether case is ignored.

    Raises:
        MissingExtraError: if sacrebleu is not installed.
    """
    return float(_chrf(lowercase).corpus_score(outputs, [references]).score)
