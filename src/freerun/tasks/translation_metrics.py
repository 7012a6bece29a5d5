"""What is reported of translations, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freerun.tasks.extras import extra


class TranslationMetrics:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a corpus; the share of equal texts.

    Args:
        lower: whether capitals count as small letters.
        tokenised: whether words are what stands between spaces already; else BLEU tells them apart
            by the rules 13a.

    Raises:
        MissingExtraError: where `sacrebleu` is not installed.
    """

    def __init__(self, *, lower: bool, tokenised: bool) -> None:
        library = extra("sacrebleu.metrics", "translation", "BLEU")
        rules = "none" if tokenised else "13a"
        self.lower = lower
        self.metrics: dict[str, Any] = {
            "bleu": library.BLEU(lowercase=lower, tokenize=rules, force=tokenised),
            "chrf": library.CHRF(lowercase=lower),
        }

    def score(self, texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """`bleu` and `chrf`, in 0 … 100, and `exact_match`, in 0 … 1.

        Args:
            texts: the outputs.
            references: one reference for each.
        """
        scores = {
            name: float(metric.corpus_score(texts, [references]).score)
            for name, metric in self.metrics.items()
        }
        pairs = zip(map(self._plain, texts), map(self._plain, references), strict=True)
        equal = sum(text == reference for text, reference in pairs)
        return {**scores, "exact_match": equal / max(len(references), 1)}

    def signatures(self) -> dict[str, str]:
        """How sacrebleu computes each of its metrics, in its own words."""
        found = {}
        for name, metric in self.metrics.items():
            # It knows how many references there are only when it has seen some.
            score = metric.corpus_score(["a"], [["a"]])
            found[name] = f"{score.name}|{metric.get_signature()}"
        return found

    def _plain(self, text: str) -> str:
        """A text as it is compared: white space of any kind is one space."""
        plain = " ".join(text.split())
        return plain.lower() if self.lower else plain
