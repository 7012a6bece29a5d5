"""How metrics are named, and which way is better."""

import pytest

from freerun.report.labels import arrow, label, scale, unit


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("character_error", ("character error", "%", 100, "↓")),
        ("exact_match", ("exact match", "%", 100, "↑")),
        ("bleu", ("BLEU", "", 1, "↑")),
        ("ms_jaccard", ("MS-Jaccard", "%", 100, "↑")),
        ("mauve", ("MAUVE", "%", 100, "↑")),
        ("repetition", ("repetition", "%", 100, "↓")),
        ("entropy", ("entropy", "", 1, "")),
        ("beam_repetition", ("beam repetition", "%", 100, "↓")),
        ("beam_entropy", ("beam entropy", "", 1, "")),
        ("beam_hamming_error", ("beam Hamming error", "%", 100, "↓")),
    ],
)
def test_metrics_have_a_name_a_unit_and_a_direction(metric, shown):
    assert (label(metric), unit(metric), scale(metric), arrow(metric)) == shown
