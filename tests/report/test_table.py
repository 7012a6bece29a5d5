"""The table of a comparison, letter by letter."""

import math
import re

import numpy as np
import pytest
from rich.console import Console

from freerun.evaluation import estimate, estimate_difference
from freerun.report import legend, summary, table
from freerun.report.labels import arrow, format_mean, label, scale, unit
from freerun.report.table import fold_name

ESTIMATES = {"test": estimate, "difference_to_mle": estimate_difference}


def text(found, width=80):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(found)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_deviation_is_that_of_a_sample():
    assert summary([1.0, 2.0, 4.0]) == {
        "mean": pytest.approx(7 / 3),
        "std": pytest.approx(math.sqrt(7 / 3)),
        "values": [1.0, 2.0, 4.0],
    }
    assert summary([3.0]) == {"mean": 3.0, "std": None, "values": [3.0]}


def test_the_table(results):
    assert text(table(results)) == [
        "digits, 1,200 updates each",
        "",
        "                       character error     exact match",
        " method                            % ↓             % ↑     time",
        " ──────────────────────────────────────────────────────────────",
        " mle                      11.00 ± 1.41    75.00 ± 7.07   1.00 ×",
        " scheduled_sampling:       9.00 ± 1.41    80.00 ± 7.07   2.00 ×",
        " schedule=linear,              Δ-2.00*          Δ+5.00",
        " k=0.9                     -2.00…-2.00    -7.71…+17.71",
        " differentiable_           7.00 ± 1.41    85.00 ± 7.07   3.00 ×",
        " scheduled_sampling            Δ-4.00*         Δ+10.00",
        "                           -4.00…-4.00   -15.41…+35.41",
        "",
        " majority guess                  77.60            0.10",
        "",
    ]
    assert legend(results) == (
        "Test set, free-running, greedy decoding; mean ± standard deviation over 2 seeds.\n"
        "Δ: difference to mle of the same seed. Time: of an update, relative to mle.\n"
        "95 % intervals of Δ are over seeds and test examples; * excludes zero.\n"
        "Majority guess: the best score of an output that ignores its source."
    )


def test_methods_can_be_read_where_the_console_is_too_narrow(results):
    results["task"]["name"] = "/home/her/dates.py:Dates"
    lines = text(table(results), width=50)
    assert lines[0] == "Dates, 1,200 updates each"
    assert any(line.startswith(" scheduled_sampling:") for line in lines)


def test_beam_search_has_a_row_below(results):
    results["beam"] = 4
    for entry in results["methods"].values():
        for group, compute in ESTIMATES.items():
            entry[group] |= {
                f"beam_{metric}": compute([value / 2 for value in figure["values"]], None)
                for metric, figure in list(entry[group].items())
            }
    lines = text(table(results))
    assert lines[5:11] == [
        " mle                      11.00 ± 1.41    75.00 ± 7.07   1.00 ×",
        "   beam 4                  5.50 ± 0.71    37.50 ± 3.54",
        " scheduled_sampling:       9.00 ± 1.41    80.00 ± 7.07   2.00 ×",
        " schedule=linear,              Δ-2.00*          Δ+5.00",
        " k=0.9                     -2.00…-2.00    -7.71…+17.71",
        "   beam 4                  4.50 ± 0.71    40.00 ± 3.54",
    ]
    assert lines[11:13] == [
        "                               Δ-1.00*          Δ+2.50",
        "                           -1.00…-1.00     -3.85…+8.85",
    ]
    assert legend(results).splitlines()[1] == (
        "Beam 4: beam search with 4 hypotheses, by the same models."
    )


def test_signatures_stand_below(results):
    results["task"]["signatures"] = {"bleu": "BLEU|nrefs:1", "chrf": "chrF2|nrefs:1"}
    assert legend(results).splitlines()[-2:] == ["BLEU|nrefs:1", "chrF2|nrefs:1"]


def test_one_seed_has_no_deviation(results):
    results["seeds"] = [0]
    for entry in results["methods"].values():
        for group, compute in ESTIMATES.items():
            for metric, figure in entry[group].items():
                draws = np.array([[0.9], [1.1]]) * figure["values"][0]
                entry[group][metric] = compute(figure["values"][:1], draws)
    entry["difference_to_mle"]["exact_match"] = estimate_difference([0.08], None)
    lines = text(table(results))
    assert lines[5] == " mle                             10.00         80.00   1.00 ×"
    assert lines[9:12] == [
        " differentiable_                  6.00         90.00   3.00 ×",
        " scheduled_sampling            Δ-4.00*        Δ+8.00",
        "                           -4.38…-3.62",
    ]
    assert legend(results).splitlines()[:4] == [
        "Test set, free-running, greedy decoding; one seed.",
        "Δ: difference to mle of the same seed. Time: of an update, relative to mle.",
        "95 % intervals of Δ are over test examples; * excludes zero.",
        "One seed: other seeds may give other differences.",
    ]


def test_it_says_how_many_seeds_would_be_needed(results):
    differences = [0.0, 0.0], [-0.02, -0.01], [0.001, -0.001]
    for entry, values in zip(results["methods"].values(), differences, strict=True):
        entry["difference_to_mle"]["character_error"] = estimate_difference(values, None)
    assert legend(results).splitlines()[3:6] == [
        "Seeds that would be needed to tell the character error from that of mle:",
        "  scheduled_sampling:schedule=linear,k=0.9: about 4",
        "  differentiable_scheduled_sampling: more than 1,000",
    ]


def test_without_mle_there_is_no_difference(results):
    results["base"] = None
    del results["methods"]["mle"]
    for entry in results["methods"].values():
        entry["difference_to_mle"] = entry["time_relative_to_mle"] = None
    lines = text(table(results))
    assert "Δ" not in "".join(lines)
    assert " scheduled_sampling:       9.00 ± 1.41   80.00 ± 7.07   20.0 ms" in lines
    assert "95 %" not in legend(results)
    assert "No method is MLE, so there is no difference or relative time" in legend(results)


@pytest.mark.parametrize(
    ("training", "title"),
    [
        ({"budget": 90.0, "updates": None}, "digits, 90 s of training each"),
        ({"patience": 3}, "digits, at most 1,200 updates each"),
    ],
)
def test_the_title_says_what_was_spent(results, training, title):
    results["training"] |= training
    assert text(table(results))[0] == title


def test_three_metrics_fit_eighty_columns(results):
    for entry in results["methods"].values():
        entry["test"]["hamming_error"] = estimate([0.5, 0.9], None)
        entry["difference_to_mle"]["hamming_error"] = estimate_difference([-0.5, -0.48], None)
    results["majority"]["hamming_error"] = 0.9
    lines = text(table(results))
    assert max(map(len, lines)) <= 80
    assert not any(re.search("…( |$)", line) for line in lines)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("mle", ["mle"]),
        ("differentiable_scheduled_sampling", ["differentiable_", "scheduled_sampling"]),
        ("a:b=1,c=2", ["a:b=1,c=2"]),
        ("averyveryverylongnamethatcannotbreak", ["averyveryverylongnamethatcannotbreak"]),
    ],
)
def test_names_break_where_words_end(name, lines):
    assert fold_name(name).split("\n") == lines
    assert fold_name(name).replace("\n", "") == name


def test_metrics_in_words():
    names = ("chunk_f1", "bleu", "chrf", "hamming_error", "exact_match")
    assert [label(name) for name in names] == [
        "chunk F1", "BLEU", "chrF", "Hamming error", "exact match",
    ]  # fmt: skip
    assert [arrow(name) for name in ("chunk_f1", "character_error")] == ["↑", "↓"]
    assert (unit("bleu"), scale("bleu"), unit("chunk_f1"), scale("chunk_f1")) == (
        "",
        1.0,
        "%",
        100.0,
    )
    assert (unit("chrf"), scale("chrf")) == ("", 1.0)
    assert (unit("beam_bleu"), scale("beam_bleu")) == ("", 1.0)
    assert (label("beam_bleu"), label("beam_f1"), scale("beam_f1")) == ("beam BLEU", "beam F1", 100)
    assert format_mean(summary([0.5, 0.7]), 100.0) == "60.00 ± 14.14"


def test_the_use_of_backspaces_is_told_of_the_methods_that_have_them(results):
    entry = results["methods"]["mle"]["test"]
    entry["backspace_rate"] = summary([0.01, 0.03])
    entry["withdrawn"] = summary([0.5, 0.5])
    assert legend(results).splitlines()[-1] == (
        "mle: backspace rate 2.00 ± 1.41 %, withdrawn 50.00 ± 0.00 %."
    )
