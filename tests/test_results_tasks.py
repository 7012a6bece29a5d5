"""The tasks of docs/results that are written for one page: their rows, metrics and bounds."""

import runpy

import pytest
import torch
from safetensors.torch import load_file

from freerun.tasks import load_data
from tests.pages import ROOT
from tests.tasks.test_ocr import rows, text


def load(name):
    """The names of a script, without running it as one."""
    return runpy.run_path(str(ROOT / "docs" / "results" / name))


@pytest.fixture
def setting():
    return load("ocr-published/setting.py")


@pytest.fixture
def sums():
    return load("compounding/sums.py")


def test_words_of_the_published_setting_end_and_all_other_folds_are_trained_on(setting, write):
    path = write(text(rows("cat", "ox", "dog", folds=[0, 1, 2])))
    task = setting["Published"](path, fold=1)
    splits = task.rows()
    assert [row["target"] for row in splits["train"]] == ["cat$", "dog$"]
    assert [row["target"] for row in splits["test"]] == ["ox$"]
    assert splits["dev"] == splits["test"]
    (row,) = splits["test"]
    assert row["features"].shape == (3, 128)
    assert row["features"][:2].any(1).all()
    assert not row["features"][2].any()
    assert load_data(task).codec.target.symbols[-1] == "$"
    assert load_data(task).codec.target.actions == 27


def test_the_end_of_a_word_does_not_count_as_a_letter(setting):
    outputs, references = [[1, 2, 3, 26], [5, 26, 0]], [[1, 2, 4, 26], [5, 6, 26]]
    assert setting["letter_error"](outputs, references) == pytest.approx(2 / 5)
    assert setting["early_ends"](outputs, references) == pytest.approx(1 / 5)


def test_initial_weights_of_the_published_setting(setting, write, tmp_path):
    path = write(text(rows("cat", "ox", folds=[0, 1])))
    setting["write_start"](path, 3, str(tmp_path / "start"))
    weights = load_file(tmp_path / "start" / "model.safetensors")
    assert weights["embedding.weight"].abs().max() == pytest.approx((6 / 128) ** 0.5, rel=0.01)
    assert weights["output.weight"].abs().max() == pytest.approx((6 / (128 + 27)) ** 0.5, rel=0.01)
    assert torch.equal(weights["output.bias"], torch.zeros(27))


@pytest.mark.parametrize("reverse", [False, True])
def test_copies_are_letters_without_digits(reverse):
    task = load("compounding/copies.py")["Copies"](
        length=3, test_length=6, reverse=reverse, train_size=50
    )
    splits = task.rows()
    sources = [row["source"] for part in splits.values() for row in part]
    assert len(set(sources)) == len(sources) == 2050
    for name, length in {"train": 3, "dev": 3, "test": 6}.items():
        for row in splits[name]:
            letters = "".join(filter(str.isalpha, row["source"]))
            assert len(letters) == length
            assert row["target"] == (letters[::-1] if reverse else letters)


def test_sums_are_those_of_the_digits(sums):
    task = sums["Sums"](length=6, noise=0, blur=0, train_size=20)
    for row in task.rows()["train"]:
        digits, seen = row["features"][:, :4].argmax(1), row["features"][:, 4:].argmax(1)
        assert (digits.cumsum() % 4 == seen).all()
        assert row["target"] == "".join(map(str, seen))


# A digit that is read is wrong with probability 3/4·0.1, and errors that add up to a multiple of 4
# cancel: after t digits, the sum is wrong with probability 3/4·(1 - 0.9^t).
@pytest.mark.parametrize(
    ("length", "noise", "blur", "right", "own", "none"),
    [
        (1, 0.1, 0.5, 0.075, 0.075, 0.075),
        (3, 0.1, 1, 0.075, 0.14025, 0.14025),
        (3, 1, 0.4, 0.3, 0.3, 0.3),
        (3, 0, 1, 0, 0, 0),
    ],
)
def test_bounds_of_sums(sums, length, noise, blur, right, own, none):
    found = sums["compute_bounds"](sums["Sums"](length=length, noise=noise, blur=blur))
    assert found["right prefix"] == pytest.approx(right, abs=0.006)
    assert found["own prefix"] == pytest.approx(own, abs=0.006)
    assert found["no prefix"] == pytest.approx(none, abs=0.006)
