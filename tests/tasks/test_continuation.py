"""The task text: paragraphs, splits, examples and their scores."""

from itertools import pairwise

import pytest

from freerun.data import DataError
from freerun.data.prose import split_paragraphs
from freerun.metrics import score, score_majority_guess
from freerun.tasks import TASKS, Continuation, load_data
from tests.codecs import source_texts
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import byte_tokenizer

NAMES = ["Anna", "Bea", "Cora", "Dora", "Ella", "Fay", "Gina"]
STORY = "\n\n".join(
    f"{name} went to the town with {other}\nand saw {i * i} bells there." if i % 4 else f"Part {i}"
    for i, (name, other) in enumerate(pairwise(NAMES * 4))
)


@pytest.fixture
def story(write):
    return write(STORY, "story.txt")


def texts(codec, examples):
    """The prompts and targets of examples."""
    batch = examples.batch(range(len(examples)))
    return source_texts(codec, examples), [
        row.tolist() for row in unpadded(batch.target, batch.mask)
    ]


def unpadded(values, mask):
    return [row[there] for row, there in zip(values, mask, strict=True)]


def test_paragraphs_stand_between_empty_lines():
    text = "One\n  two \n\n\n \t\nthree\u00a0four\nfive\n"
    assert split_paragraphs(text) == ["One two", "three four five"]


def test_examples_are_beginnings_that_end_in_eos_where_the_paragraph_does(story):
    data = load_data(Continuation(story, prompt=10, length=20, whole=False))
    kept = [text for text in split_paragraphs(STORY) if len(text) > 10]
    prompts, rows = texts(data.codec, data.train)
    eos = data.codec.target.eos
    for text, prompt, row in zip(kept, prompts, rows, strict=False):
        assert prompt == text[:10]
        assert data.codec.text(row) == text[10:30]
        assert (row[-1] == eos) == (len(text) < 30)
    batch = data.train.batch(range(len(data.train)))
    assert [r[:-1] if r[-1] == eos else r for r in rows] == list(data.train.references)
    assert batch.source.values.max() < data.codec.factors[0]


def test_a_target_has_at_most_length_tokens_with_its_eos(write):
    path = write("\n\n".join("abcdefghij"[:n] for n in (3, 4, 9, 7, 6, 8)))
    data = load_data(Continuation(path, prompt=2, length=4, whole=False, dev_size=1, test_size=1))
    assert data.codec.limit == 4
    ended = [row[-1] == data.codec.target.eos for row in texts(data.codec, data.train)[1]]
    assert ended == [True, True, False, False]
    _, (last,) = texts(data.codec, data.test)
    assert data.codec.text(last) == "cdef"
    assert len(last) == 4


def test_whole_paragraphs_are_trained_on_and_beginnings_tested_on(story):
    some = load_data(Continuation(story, prompt=8, length=9, whole=False))
    whole = load_data(Continuation(story, prompt=8, length=9))
    assert len(whole.train) > 2 * len(some.train)
    assert texts(whole.codec, whole.test) == texts(some.codec, some.test)
    assert f"train has {len(whole.train)} pieces" in whole.notes


def test_splits_are_stretches_that_share_no_paragraph(write):
    parts = [f"the paragraph of number {i}" for i in range(40)]
    parts[39] = parts[33]
    path = write("\n\n".join(parts))
    data = load_data(Continuation(path, prompt=5, length=30, whole=False))
    codec = data.codec
    found = {}
    for name in ("train", "dev", "test"):
        prompts, rows = texts(codec, getattr(data, name))
        found[name] = [p + codec.text(row) for p, row in zip(prompts, rows, strict=True)]
    assert found == {"train": parts[:32], "dev": parts[32:36], "test": parts[36:39]}
    assert data.notes[:2] == [
        "1 paragraphs of test were left out: they are also in train or dev",
        "train 32, dev 4, test 3 paragraphs",
    ]


def test_notes_say_what_was_left_out(story):
    data = load_data(Continuation(story, prompt=10, length=20, train_size=5))
    assert "train was cut from 23 paragraphs to 5, drawn by seed" in data.notes
    assert "train 5, dev 2, test 2 paragraphs" in data.notes
    short = load_data(Continuation(story, prompt=10, length=20)).notes
    parts = [len(part) for part in (split_paragraphs(STORY)[:-4],)]
    left = sum(len(text) <= 10 for text in split_paragraphs(STORY)[:-4])
    note = f"train: {left} of {parts[0]} texts were left out: they have at most 10 tokens"
    assert note in short


def test_what_gutenberg_adds_is_left_out(write):
    begin, end = (f"*** {word} OF THIS PROJECT GUTENBERG EBOOK X ***" for word in ("START", "END"))
    path = write(f"the licence\n\n{begin}\n\n{STORY}\n\n{end}\n\nmore of it", "book.txt.gz")
    data = load_data(Continuation(path, prompt=4, length=8))
    assert data.notes[0] == "the header and the license of Project Gutenberg were removed"
    assert texts(data.codec, data.train)[0][0] == "Part"


def test_characters_that_come_once_are_unknown(write):
    path = write("\n\n".join(["abab%abab", *["abba baab"] * 8, "ab#aab", "abbbbab ~"]))
    task = Continuation(path, prompt=2, length=12, dev_size=1, test_size=1)
    data = load_data(task)
    codec = data.codec
    assert codec.target.symbols == ("<unk>", " ", "a", "b", "<eos>")
    assert codec.target.unknown == 0
    row = texts(codec, data.test)[1][0]
    assert codec.text(row) == "bbbab <unk>"
    right = next(iter(data.test.references))
    assert score(task.get_metrics(), codec, [right], data.test)["ms_jaccard"] < 1


def test_byte_pair_tokens_are_learned_of_train(story):
    data = load_data(Continuation(story, target_tokens="bpe:300", prompt=4, length=6))
    codec = data.codec
    assert 257 < codec.target.actions <= 301
    _, rows = texts(codec, data.train)
    assert "town with" in "".join(map(codec.decode, rows[:9]))
    assert codec.shared
    assert codec.target.unknown is None
    assert codec.limit == 6
    assert codec.with_backspace().limit == 9


def test_prompts_to_predict_from(story):
    task = Continuation(story, prompt=6, length=6)
    codec = load_data(task).codec
    sources = task.read_sources(codec, ["Anna went", "the ", "to"], "in")
    assert source_texts(codec, sources) == ["a went", "the ", "to"]
    for lines, message in (
        ([], "in: nothing to read"),
        (["a", " "], "in, line 2: there is no prompt"),
    ):
        with raises(DataError, message):
            task.read_sources(codec, lines, "in")


def test_another_file_is_evaluated_by_its_beginnings(story, write, refuses):
    task = Continuation(story, prompt=6, length=6)
    codec = load_data(task).codec
    path = write("Fay went\nto town.\n\nshort\n", "other.txt")
    prompts, rows = texts(codec, codec.encode(task.read_examples(path), path))
    assert prompts == ["Fay we"]
    assert codec.text(rows[0]) == "nt to "
    path = write("short\n", "none.txt")
    message = f"{path}: no text has more than 6 tokens, the length of a prompt"
    refuses(message, codec.encode, task.read_examples(path), path)


def test_scores_look_at_no_more_than_a_target_may_have(story):
    task = Continuation(story, prompt=6, length=6)
    data = load_data(task)
    right = list(data.test.references)
    metrics = task.get_metrics()
    found = score(metrics, data.codec, right, data.test)
    assert found["ms_jaccard"] == pytest.approx(1.0)
    assert list(found) == ["ms_jaccard", "entropy", "diversity", "repetition"]
    longer = [row + [1] * 9 if len(row) == 6 else row for row in right]
    assert score(metrics, data.codec, longer, data.test) == found
    empty = score(metrics, data.codec, [[] for _ in right], data.test)
    assert empty["ms_jaccard"] == 0


def test_the_majority_guess_is_text_of_training(write):
    path = write("\n\n".join([*["ab" + "c" * 9] * 18, "abcd", "abccd", "abcccd"]))
    task = Continuation(path, prompt=2, length=20, dev_size=1, test_size=2)
    data = load_data(task)
    metrics = task.get_metrics()
    expected = score(metrics, data.codec, [[3] * 9] * 2, data.test)
    assert score_majority_guess(metrics, data) == expected
    assert data.codec.target.symbols[3] == "c"


def test_a_tokenizer_reads_and_writes_as_many_tokens(story):
    tokenizer = byte_tokenizer(size=280)
    data = load_data(Continuation(story, prompt=5, length=7), tokenizer=tokenizer)
    codec = data.codec
    batch = data.train.batch(range(len(data.train)))
    assert batch.source.lengths.unique().tolist() == [5]
    assert batch.lengths.max() == 7
    text = tokenizer(next(text for text in split_paragraphs(STORY) if len(text) > 20))["input_ids"]
    first = next(
        i for i in range(len(batch.lengths)) if batch.source.values[i].tolist() == text[:5]
    )
    assert batch.target[first][batch.mask[first]].tolist() == text[5:12]
    ends = {row[-1].item() for row in unpadded(batch.target, batch.mask)}
    assert len(ends - {codec.target.eos}) > 1
    metrics = Continuation(story).get_metrics()
    found = score(metrics, codec, list(data.test.references), data.test)
    assert found["ms_jaccard"] == pytest.approx(1.0)


def test_settings_of_own_tokens_have_no_effect_with_a_tokenizer(story, refuses):
    message = "text: target_tokens has no effect if the model has a tokenizer; leave it out"
    task = Continuation(story, target_tokens="bpe:300")
    refuses(message, load_data, task, tokenizer=byte_tokenizer())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": 0}, "prompt is 0; it must be at least 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"test_size": 0}, "test_size is 0; it must be at least 1"),
        ({"target_tokens": "bpe"}, "byte-pair encoding needs a number of tokens, as in bpe:1000"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, message):
    with raises(ValueError, message):
        Continuation("book.txt", **settings)


def test_text_in_one_paragraph_is_refused(write, refuses):
    path = write("\n".join(f"a line of number {i}" for i in range(50)))
    message = (
        f"{path}: 1 paragraphs are too few to split; paragraphs have an empty line between them"
    )
    refuses(message, Continuation(path).rows)


def test_datasets_keep_their_splits(local_datasets, tmp_path):
    column = [text for text in split_paragraphs(STORY) if len(text) > 10]
    parts = {"train": column[:8], "validation": column[8:10], "test": [*column[10:12], column[0]]}
    made = {k: local_datasets.Dataset.from_dict({"text": v}) for k, v in parts.items()}
    local_datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    data = load_data(Continuation(str(tmp_path / "saved"), prompt=6, length=8, whole=False))
    assert [len(data.train), len(data.dev), len(data.test)] == [8, 2, 3]
    assert "1 paragraphs of test are also in train or dev" in data.notes


def test_real_text(real):
    task = Continuation(real("text/2701-0_moby_dick.txt.gz"), train_size=300, whole=False)
    data = load_data(task)
    assert 250 < len(data.train) <= 300
    assert 0.4 < score_majority_guess(task.get_metrics(), data)["ms_jaccard"] < 0.9
    assert TASKS["text"] is Continuation
