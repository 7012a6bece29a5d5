"""Tasks as pairs of texts, for models with a tokenizer."""

import pytest

from freerun.data import DataError
from freerun.tasks import TASKS, Arithmetic, Digits, Translation

PAIRS = "".join(f"This is {i}.\tDas ist {i}.\n" for i in range(40))


def test_pictures_are_no_text(refuses):
    message = (
        "the task digits is not text, which is all that a tokenizer reads and writes; take a "
        "recurrent model"
    )
    refuses(message, Digits().texts)


def test_tasks_that_are_text():
    without = [name for name, task in TASKS.items() if task.texts.__qualname__.startswith("Task.")]
    assert without == ["digits", "spelling", "ocr", "tagging"]


def sources(data, name):
    examples = getattr(data, name)
    batch = examples.batch(range(len(examples)))
    rows = zip(batch.source.values, batch.source.mask, strict=True)
    return [data.codec.source_text(values[mask]) for values, mask in rows]


@pytest.mark.parametrize("name", ["train", "dev", "test"])
@pytest.mark.parametrize("task", ["arithmetic", "translation"])
def test_texts_are_those_of_the_examples(task, name, write):
    if task == "translation":
        pytest.importorskip("sacrebleu")
    made = {
        "arithmetic": lambda: Arithmetic(train_size=30, dev_size=5, test_size=7),
        "translation": lambda: Translation(write(PAIRS), lower=True),
    }[task]()
    data, texts = made.load(), made.texts()
    assert texts.notes[: len(data.notes)] == data.notes[: len(texts.notes)]
    targets = [data.codec.text(row) for row in getattr(data, name).references]
    assert [target for _, target in texts[name]] == (
        targets if task != "translation" else [text.lower() for text in getattr(data, name).texts]
    )
    if name == "train" or task != "translation":
        assert [source for source, _ in texts[name]] == sources(data, name)


@pytest.mark.parametrize("setting", [{"tokens": "bpe"}, {"target_size": 500}])
def test_settings_of_own_tokens_have_no_effect(setting, refuses):
    task = Translation("pairs.tsv", **setting)
    message = "has no effect where the model has a tokenizer; leave it out"
    refuses(f"translation: {next(iter(setting))} {message}", task.texts)


def test_what_cannot_be_loaded_has_no_texts(write):
    with pytest.raises(DataError, match="too few to split"):
        Arithmetic(write("1+1\n2\n")).texts()
