"""The diagnosis of a trained model in Python."""

from dataclasses import replace

import pytest

from freerun.data import DataError
from freerun.evaluation import Decoding, Interval, measure_exposure_bias
from freerun.methods import MLE
from freerun.models.settings import RecurrentSettings
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.settings import SettingError
from freerun.study import diagnose
from freerun.study.diagnosis import leave_out_unwritable, list_changes
from freerun.tasks import Digits, Pairs
from freerun.training import fit
from freerun.training.tasks import Measured
from tests.helpers import raises
from tests.report.browser import look
from tests.training.test_fit import MODEL, TRAINING

TASK = Digits(train_size=40, dev_size=12, test_size=14)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "model"
    data = MODEL.load(TASK)
    fit(TASK, data, MLE(), model=MODEL, training=TRAINING, output=output, quiet=True)
    return output


def test_words_and_rates_are_those_of_the_measurement(folder):
    decoding = Decoding(sample=True, seed=3)
    found = diagnose(folder, split="test", decoding=decoding, draws=30)
    measured = found.measured
    assert (measured.name, len(measured.examples)) == ("test", 14)
    expected = measure_exposure_bias(
        measured.policy, measured.examples, decoding=decoding, seed=3, draws=30
    )
    assert found.measurement == expected
    assert found.words == describe_exposure_bias(expected, found.suggestion)
    assert found.rates == list_rates(expected)
    assert found.subject == f"digits, test, 14 examples, {decoding.how}"


def test_the_page_has_the_suggested_command(folder, tmp_path):
    found = diagnose(folder, draws=5)
    assert found.suggestion.startswith("freerun compare digits ")
    suffers = replace(found.measurement, excess=Interval(0.2, 0.1, 0.3))
    page = tmp_path / "page.html"
    replace(found, measurement=suffers).write_page(page)
    seen = look(page.read_text(), tmp_path)["text"]
    assert found.suggestion in seen
    worst = max(found.outputs, key=lambda row: row["errors"])
    assert "Typical" in seen
    assert f"output ({worst['errors']} errors)" in seen
    assert worst["reference"] in seen
    calm = replace(found.measurement, excess=Interval(0.0, -0.1, 0.1))
    replace(found, measurement=calm).write_page(page)
    assert "<span>compare</span>" not in page.read_text()


def test_targets_that_cannot_be_written_are_left_out(tmp_path):
    (tmp_path / "rows.tsv").write_text("".join(f"{a}{b}\t{b}{a}\n" for a in "abcd" for b in "abcd"))
    task = Pairs(str(tmp_path / "rows.tsv"), target_tokens="characters")
    data = task.load()
    policy = RecurrentSettings(hidden_size=4, embedding_size=4).build(data.codec)
    rows = [{"source": "ab", "target": text} for text in ("ba", "bz", "zz", "dd")]
    measured = Measured(policy, data.codec, task, data.codec.encode(rows, "rows"), "rows")
    kept = leave_out_unwritable(measured).examples
    assert [data.codec.decode(row) for row in kept.references] == ["ba", "dd"]
    assert list(kept.texts) == ["ba", "dd"]
    again = replace(measured, examples=kept)
    assert leave_out_unwritable(again) is again
    nothing = replace(measured, examples=measured.examples.select([1, 2]))
    message = (
        "rows: every target has symbols that the model cannot write, so its errors cannot be "
        "traced to earlier ones"
    )
    with raises(DataError, message):
        leave_out_unwritable(nothing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost": "hamming", "oracle": "x"}, "cost and oracle exclude each other"),
        ({"draws": 0}, "draws is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    ],
)
def test_mistakes(folder, settings, message):
    with pytest.raises(SettingError, match=message):
        diagnose(folder, **settings)


def test_a_setting_with_several_values_is_given_in_several_words():
    usual = {"metrics": (), "updates": 9, "data": None}
    found = list_changes("task", {"metrics": ["bleu", "chrf"], "updates": 9, "data": "x"}, usual)
    assert found == ["--metrics", "bleu", "chrf", "--data", "x"]
