"""Dates in handwritten digits."""

import dataclasses
import re
from datetime import date

import pytest
import torch

from freerun.data import DataError
from freerun.metrics import score_majority_guess
from freerun.tasks import Digits, load_data
from freerun.tasks.digits import MONTHS, DigitImages
from tests.helpers import raises

SMALL = {"train_size": 60, "dev_size": 20, "test_size": 30}


@pytest.fixture(scope="module")
def data():
    return load_data(Digits(**SMALL))


def texts(examples):
    return list(examples.texts)


def images(examples, epoch=0):
    values = examples.batch(range(len(examples)), epoch).source.values
    return {image.numpy().tobytes() for image in values.flatten(0, 1)}


def test_targets_say_the_dates_of_the_sources(data):
    for name, size in (("train", 60), ("dev", 20), ("test", 30)):
        part = getattr(data, name)
        assert len(part) == size
        digits = Digits(**SMALL)._images(name).digits.tolist()
        for text, row in zip(texts(part), digits, strict=True):
            day, month, year = re.fullmatch(r"(\d+) ([a-z]+) (\d{4})", text).groups()
            when = date(int(year), MONTHS.index(month) + 1, int(day))
            assert when.strftime("%d%m%Y") == "".join(map(str, row))


def test_sources_are_images_and_targets_end_in_eos(data):
    batch = data.train.batch([0, 5])
    assert batch.source.values.shape == (2, 8, 64)
    assert batch.source.values.dtype == torch.float32
    assert 0 <= batch.source.values.min() <= batch.source.values.max() <= 1
    assert batch.source.mask.all()
    for target, mask in zip(batch.target, batch.mask, strict=True):
        assert target[mask][-1] == data.codec.target.eos
    assert data.codec.limit == max(map(len, texts(data.train))) * 3 // 2 + 1


def test_splits_share_no_dates():
    data = Digits(train_size=3_000, dev_size=500, test_size=500).rows()
    dates = [row["target"] for part in data.values() for row in part]
    assert len(set(dates)) == 4_000


def test_splits_share_no_images():
    task = Digits(noise=0.0, train_size=2_000, dev_size=500, test_size=500)
    data = load_data(task)
    sides = [images(part) for part in (data.train, data.dev, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert [len(task._images(name).images) for name in ("train", "dev", "test")] == [1445, 176, 176]
    assert len(sides[2]) > 170


def test_images_are_those_of_the_digits():
    # One image a digit, all of whose pixels say which.
    grey = torch.arange(10)[:, None].expand(10, 64) / 10
    numbers = torch.arange(10)
    values = torch.tensor([[2, 1, 1, 1, 2, 0, 2, 6]])
    draw = DigitImages(
        digits=values,
        images=grey,
        starts=numbers,
        counts=torch.ones(10, dtype=torch.int64),
        noise=0.0,
        seed=0,
        stream="s",
    )
    drawn = draw.draw(torch.tensor([0]), 0)
    assert torch.equal(drawn, grey[values])


def test_all_images_of_a_digit_are_drawn():
    draw = Digits(noise=0.0, **SMALL)._images("dev")
    draw = dataclasses.replace(draw, digits=torch.full((300, 8), 4))
    drawn = draw.draw(torch.arange(300), 0)
    own = draw.images[draw.starts[4] : draw.starts[5]]
    assert {row.numpy().tobytes() for row in drawn.flatten(0, 1)} == {
        row.numpy().tobytes() for row in own
    }


def test_images_and_noise_are_redrawn_every_epoch_in_training_only(data):
    for part, redrawn in ((data.train, True), (data.dev, False), (data.test, False)):
        one, other = (part.batch(range(10), epoch).source.values for epoch in (0, 1))
        assert torch.equal(one, other) is not redrawn
    whole = data.train.batch(range(20), epoch=3).source.values
    assert torch.equal(data.train.batch([7, 3], epoch=3).source.values, whole[[7, 3]])


def test_noise_replaces_that_share_of_pixels_by_greys():
    clean, noisy = (
        load_data(Digits(noise=noise, **SMALL)).dev.batch(range(20)) for noise in (0.0, 0.5)
    )
    # A grey of the images is a multiple of 1/16; one that was drawn is not.
    drawn = (noisy.source.values * 16) % 1 != 0
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(noisy.source.values[~drawn], clean.source.values[~drawn])
    greys = noisy.source.values[drawn]
    assert greys.mean().item() == pytest.approx(0.5, abs=0.02)
    assert greys.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_data_is_fixed_by_its_seed(data):
    assert texts(load_data(Digits(**SMALL)).test) == texts(data.test)
    assert texts(load_data(Digits(seed=1, **SMALL)).test) != texts(data.test)


def test_notes_and_majority(data):
    assert data.notes == [
        "train: 60 dates, 1445 images",
        "dev: 20 dates, 176 images",
        "test: 30 dates, 176 images",
    ]
    errors = score_majority_guess(Digits().get_metrics(), data)
    assert 0.6 < errors["character_error"] < 0.9
    assert errors["exact_match"] == 0


def image(value="0"):
    return " ".join([value] * 64)


def test_images_to_predict_from(data):
    lines = [image("0.5"), image("1").replace(" ", ","), "", image("0"), "", ""]
    examples = Digits().read_sources(data.codec, lines, "-")
    assert examples.lines == [lines[:2], lines[3:4]]
    batch = examples.batch([0, 1])
    assert batch.source.values[:, :, 0].tolist() == [[0.5, 1], [0, 0]]
    assert batch.source.mask.tolist() == [[True, True], [True, False]]
    assert batch.target.shape == (2, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1 2"], "-, line 1: 2 numbers; a position has 64"),
        ([image("x")], "-, line 1: not all of it is numbers"),
        ([image(), image("16")], "-, line 2: a pixel lies outside 0 … 1"),
        ([], "-: nothing to read"),
    ],
)
def test_images_that_cannot_be_read_are_named(refuses, data, lines, message):
    refuses(message, Digits().read_sources, data.codec, lines, "-")


def test_other_files_to_evaluate_on(write, data):
    path = write(f"{image()}\n{image()}\n1 may 1999\n\n{image()}\n2 may\n")
    examples = data.codec.encode(Digits().read_examples(path), path)
    assert texts(examples) == ["1 may 1999", "2 may"]
    batch = examples.batch([0, 1])
    assert batch.source.mask.tolist() == [[True, True], [True, False]]
    assert batch.target[0, -1] == data.codec.target.eos


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("1 may\n", ", line 1: the target is empty; a line that says the date follows its images"),
        (
            f"{image()}\n{image()}\n\n{image()}\n1 may\n",
            ", line 2: the target is empty; a line that says the date follows its images",
        ),
        ("1 2\n1 may\n", ", line 1: 2 numbers; a position has 64"),
    ],
)
def test_files_that_cannot_be_evaluated_on_are_named(refuses, write, contents, message):
    path = write(contents)
    refuses(path + message, Digits().read_examples, path)


def test_dates_that_cannot_be_written_are_named_with_their_line(write, data):
    path = write(f"{image()}\n1 may\n\n{image()}\n1 mää\n")
    (message,) = data.codec.encode(Digits().read_examples(path), path).unseen
    assert message.startswith(f"{path}, line 5: the target has 'ä', which")
    path = write(f"{image()}\n1 may\n\n{image()}\n{'1' * 27}\n")
    with pytest.raises(DataError) as caught:
        data.codec.encode(Digits().read_examples(path), path)
    assert str(caught.value).startswith(f"{path}, line 5: ")
    assert "27 tokens" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -0.1}, "noise is -0.1; it must lie in 0 … 1"),
        ({"test_size": 0}, "test_size is 0; it must be at least 1"),
        (
            {"train_size": 730_000},
            "train_size, dev_size and test_size make 731500; dates are 730485",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with raises(ValueError, message):
        Digits(**settings)


def test_scikit_learn_is_asked_for(refuses, missing):
    missing("sklearn")
    message = "the task digits needs sklearn, which is missing: pip install 'freerun[digits]'"
    refuses(message, Digits().rows)
