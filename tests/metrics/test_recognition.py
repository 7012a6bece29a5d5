"""Error rates of words and characters under normalizers, by hand."""

import random

import pytest

from freerun.metrics import cer, find_metric, sequence_error, wer
from freerun.settings import SettingError
from tests.helpers import raises

SAID, HEARD = "Mr. Smith, isn't it?", "mister smith is not it"


def test_words_and_characters():
    # One substitution and one insertion for three words; "x" is deleted for one.
    outputs, references = ["a b  d e", ""], ["a b c", "x"]
    assert wer(outputs, references) == 3 / 4
    assert cer(outputs, references) == (3 + 1) / (5 + 1)
    assert wer(["a"], [""]) == 1
    assert sequence_error(["ab", "b"], ["ab", "c"]) == 0.5


@pytest.mark.parametrize(
    ("normalizer", "expected"), [("none", 4 / 4), ("plain", 3 / 4), ("whisper_english", 0)]
)
def test_normalizers(normalizer, expected):
    if normalizer.startswith("whisper"):
        pytest.importorskip("whisper_normalizer")
    # Without one, only "it?" could match, and does not; "plain" makes smith and it equal.
    found = wer([HEARD], [SAID], normalizer=normalizer)
    assert found == pytest.approx(expected if normalizer != "none" else 5 / 4)


def test_a_normalizer_that_is_unknown():
    message = "normalizer is 'whisker'; it must be one of none, plain, whisper, whisper_english"
    metric = find_metric("wer:normalizer=whisker")
    with raises(SettingError, message):
        metric.check(**metric.settings)


def test_the_signature_says_the_normalizer():
    metric = find_metric("cer:normalizer=plain")
    assert metric.get_signature() == "cer|normalizer:plain|white space:single"


WORDS = ["a", "ab", "Abc", "b,", "ça", "d.", "été", "—", "it's"]


@pytest.mark.parametrize("normalizer", ["none", "plain"])
def test_jiwer_computes_the_same(normalizer):
    jiwer = pytest.importorskip("jiwer")
    draw = random.Random(5)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(200)]
    outputs, references = texts[:100], texts[100:]
    outputs[3] = ""
    steps = [jiwer.ToLowerCase(), jiwer.RemovePunctuation()] if normalizer == "plain" else []
    steps += [jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
    for metric, name, last in (
        (wer, "wer", jiwer.ReduceToListOfListOfWords()),
        (cer, "cer", jiwer.ReduceToListOfListOfChars()),
    ):
        change = jiwer.Compose([*steps, last])
        expected = getattr(jiwer, name)(references, outputs, change, change)
        assert metric(outputs, references, normalizer=normalizer) == pytest.approx(expected)
