"""The F-score of edits, by hand."""

import pytest

from freerun.metrics import edit_f, find_metrics, score
from freerun.metrics.corrections import find_edits
from tests.metrics.test_scoring import text_codec


def test_edits_are_places_and_texts():
    assert find_edits("abcd", "abcd") == set()
    assert find_edits("abcd", "axyd") == {(1, 3, ("x", "y"))}
    assert find_edits("abcd", "zabd") == {(0, 0, ("z",)), (2, 3, ())}


def test_precision_weighs_more_than_recall():
    # Two edits are wanted; one is found, and is right: P = 1, R = 1/2.
    outputs, references = [("a b c", "x b c")], ["x b y"]
    assert edit_f(outputs, references) == pytest.approx(1.25 * 0.5 / (0.25 * 1 + 0.5))
    assert edit_f(outputs, references, beta=1.0) == pytest.approx(2 * 0.5 / 1.5)
    # One of two is right: P = 1/2, R = 1.
    wrong = [("a b c", "x b y")]
    assert edit_f(wrong, ["x b c"]) == pytest.approx(1.25 * 0.5 / (0.25 * 0.5 + 1))
    # The same place with another text is wrong.
    assert edit_f([("ab", "xb")], ["yb"], unit="characters") == 0
    assert edit_f([("a", "a")], ["a"]) == 1


def test_sources_come_from_the_codec():
    rows = [{"source": "rad one", "target": "red one"}, {"source": "two", "target": "two"}]
    codec = text_codec(rows=rows)
    examples = codec.encode(rows)
    metrics = find_metrics(["edit_f"])
    assert score(metrics, codec, [*examples.references], examples) == {"edit_f": 1.0}
    assert score(metrics, codec, [[], []], examples) == {"edit_f": 0.0}
