"""Metrics by the length of references, by hand."""

from freerun.evaluation import measure_by_length
from freerun.metrics import exact_match


def test_groups_of_about_equally_many_examples():
    outputs, references = ["a", "x", "ab", "abcd"], ["a", "b", "ab", "abcx"]
    _, rows = exact_match.measure(outputs, references)
    found = measure_by_length({"exact_match": rows}, [1, 1, 2, 4], groups=2)
    assert found == [
        {"shortest": 1, "longest": 2, "count": 3, "metrics": {"exact_match": 2 / 3}},
        {"shortest": 4, "longest": 4, "count": 1, "metrics": {"exact_match": 0.0}},
    ]


def test_all_of_one_length_are_one_group():
    _, rows = exact_match.measure(["a", "b"], ["a", "a"])
    (found,) = measure_by_length({"exact_match": rows}, [1, 1])
    assert (found["count"], found["metrics"]) == (2, {"exact_match": 0.5})
