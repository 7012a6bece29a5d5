"""The task pairs: files and datasets of rows, their splits, and what it refuses."""

import csv
import io
import json
import shlex
from dataclasses import replace

import pytest

from freerun.data import DataError, TextCodec
from freerun.data.files import stream_lines
from freerun.data.tokens import decode_tokens
from freerun.evaluation import Decoding
from freerun.metrics import score
from freerun.models.settings import PretrainedSettings, RecurrentSettings
from freerun.settings import build, to_dict
from freerun.tasks import Pairs, Spelling, encode_file, load_data
from freerun.training.sources import stream_batches
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import CHAT, byte_tokenizer, word_tokenizer

pytestmark = pytest.mark.usefixtures("local_datasets")

ROWS = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(40)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows, separator):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("rows.jsonl", lines(ROWS)),
        ("rows.jsonl.gz", lines(ROWS)),
        ("rows.json", json.dumps(ROWS)),
        ("rows.csv", table(ROWS, ",")),
        ("rows.tsv", table(ROWS, "\t")),
    ],
)
def test_files_of_rows(write, name, contents):
    splits = Pairs(write(contents, name)).rows()
    assert {part: len(rows) for part, rows in splits.items()} == {"train": 32, "dev": 4, "test": 4}
    found = sorted(
        ((row["prompt"], row["completion"]) for rows in splits.values() for row in rows),
        key=lambda pair: int(pair[0].split()[0]),
    )
    assert found == [(row["prompt"], row["completion"]) for row in ROWS]
    assert splits.notes == ["train 32, dev 4, test 4 rows"]


def test_texts_that_look_like_numbers_stay_texts(write):
    rows = [{"source": f"{i}", "target": "NA" if i % 2 else f"0{i}"} for i in range(30)]
    parts = Pairs(write(table(rows, ","), "rows.csv")).rows()
    found = [row for part in parts.values() for row in part]
    assert sorted(found, key=str) == sorted(rows, key=str)


def test_a_parquet_file(tmp_path, local_datasets):
    path = str(tmp_path / "rows.parquet")
    local_datasets.Dataset.from_list(ROWS).to_parquet(path)
    assert len(Pairs(path).rows()["train"]) == 32


def test_rows_with_equal_prompts_stay_on_one_side(write):
    rows = [{**row, "completion": f" {k}"} for row in ROWS for k in range(3)]
    splits = Pairs(write(lines(rows), "rows.jsonl"), train_size=50, dev_size=6).rows()
    sides = [{row["prompt"] for row in splits[name]} for name in ("train", "dev", "test")]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert (len(splits["train"]), len(splits["dev"]), len(splits["test"])) == (50, 6, 12)
    assert splits.notes[0] == "train was cut from 102 rows to 50, drawn by seed"


def chat(question, answer):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


def padded(question, answer):
    tokens, labels = [7, question, *answer], [-100, -100, *answer]
    pad = 6 - len(tokens)
    mask = [0] * pad + [1] * len(tokens)
    return {
        "input_ids": [0] * pad + tokens,
        "labels": [-100] * pad + labels,
        "attention_mask": mask,
    }


@pytest.mark.parametrize(
    ("rows", "read"),
    [
        ([chat(f"q{i // 2}", f"a{i}") for i in range(40)],
         lambda row: row["messages"][0]["content"]),
        ([{"input_ids": [7, i // 2, i], "labels": [-100, -100, i]} for i in range(40)],
         lambda row: row["input_ids"][1]),
        ([{"input_ids": [7, i // 2], "labels": [i]} for i in range(40)],
         lambda row: row["input_ids"][1]),  # for an encoder-decoder
        ([padded(1 + i // 2, [9] * (1 + i % 2)) for i in range(40)],
         lambda row: row["input_ids"][row["attention_mask"].index(1) + 1]),
    ],
    ids=["messages", "causal", "encoder-decoder", "padded"],
)  # fmt: skip
def test_equal_prompts_with_other_answers_stay_on_one_side(write, rows, read):
    splits = Pairs(write(lines(rows), "rows.jsonl")).rows()
    sides = [{read(row) for row in part} for part in splits.values()]
    assert [len(side) for side in sides] == [16, 2, 2]
    assert len(set().union(*sides)) == 20
    train, test = (
        write(lines(part), f"{i}.jsonl") for i, part in enumerate((rows[::2], rows[1::2]))
    )
    notes = Pairs(train, test=test, dev_size=1).rows().notes
    column = next(iter(rows[0]))
    assert f"20 {column} of test are also in train" not in notes  # two are in dev
    assert f"19 {column} of test are also in train" in notes


def test_a_folder_keeps_its_splits(write, tmp_path):
    for name, part in (("train", ROWS[:30]), ("validation", ROWS[30:35]), ("test", ROWS[35:])):
        write(lines(part), f"rows/{name}.jsonl")
    splits = Pairs(str(tmp_path / "rows")).rows()
    assert [len(splits[name]) for name in ("train", "dev", "test")] == [30, 5, 5]


def test_the_rows_in_tokens(write):
    task = Pairs(write(lines(ROWS), "rows.jsonl"))
    data = load_data(task, tokenizer=byte_tokenizer())
    assert data.codec.column == "prompt"
    right = [list(row) for row in data.test.references]
    assert score(task.get_metrics(), data.codec, right, data.test) == {
        "exact_match": 1,
        "character_error": 0,
    }
    prompt = data.codec.tokenizer.decode(data.test.batch([0]).source.values[0])
    assert prompt == next(iter(task.rows()["test"]))["prompt"]
    row = encode_file(task, data.codec, task.data).batch([3])
    assert data.codec.tokenizer.decode(row.source.values[0]) == "3 + 1 ="


def test_conversations(write):
    turns = [
        [{"role": "user", "content": f"{i} + 1"}, {"role": "assistant", "content": f"{i + 1}"}]
        for i in range(20)
    ]
    task = Pairs(write(lines([{"messages": each} for each in turns]), "rows.jsonl"))
    data = load_data(task, tokenizer=byte_tokenizer(chat_template=CHAT))
    assert data.codec.column == "messages"
    assert all(text.strip().isdigit() for text in data.test.texts)


def test_running_text_in_blocks(write):
    rows = [{"text": "a b c " * (i + 1)} for i in range(20)]
    data = load_data(Pairs(write(lines(rows), "rows.jsonl"), block=8), tokenizer=word_tokenizer())
    assert int(data.train.targets.lengths.max()) == 8
    assert data.codec.block == 8


def test_settings_of_length_are_those_of_the_task(write):
    rows = [{"source": "a " * (i + 1), "target": "b " * (i + 1)} for i in range(20)]
    path = write(lines(rows), "rows.jsonl")
    task = Pairs(path, max_prompt=5, max_completion=6, truncation="end", separator=" c")
    data = load_data(task, tokenizer=word_tokenizer())
    assert int(data.train.sources.lengths.max()) == 5
    assert int(data.train.targets.lengths.max()) == 6
    assert data.codec.limit == 8
    assert any("prompts of 16 were cut off at the end" in note for note in data.notes)


@pytest.mark.parametrize(
    ("tokens", "shared"),
    [
        ({}, True),
        ({"target_tokens": "characters"}, True),
        ({"target_tokens": "words", "source_tokens": "words"}, False),
        ({"target_tokens": "bytes", "source_tokens": "characters"}, False),
    ],
)
def test_without_a_tokenizer_its_tokens_are_learned_from_the_rows(write, tokens, shared):
    rows = [{"source": f"{i} and {i}", "target": f"{2 * i} or {2 * i}"} for i in range(40)]
    task = Pairs(write(lines(rows), "rows.jsonl"), **tokens)
    data = load_data(task)
    assert data.codec.shared == shared
    batch = data.train.batch([0])
    first = task.rows()["train"][0]
    if "words" not in tokens.values():
        assert data.codec.source_text(
            batch.source.values[0][: len(batch.source.mask[0])]
        ).startswith(first["source"])
        right = [list(row) for row in data.test.references]
        found = score(task.get_metrics(), data.codec, right, data.test)
        assert found == {"exact_match": 1, "character_error": 0}


def test_conversations_need_a_tokenizer(write, refuses):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    task = Pairs(write(lines([{"messages": turns, "id": str(i)} for i in range(20)]), "rows.jsonl"))
    message = (
        "rows of messages are in the tokens of a trained model: name one, --model DIR or an id on "
        "the Hugging Face hub"
    )
    # All twenty prompts are equal, so they cannot be split.
    same = (
        f"{task.data}: 20 rows cannot be split, as they have only 1 different messages, and equal "
        "ones stay in one split; give dev and test"
    )
    refuses(same, load_data, task)
    asked = [[{**turns[0], "content": str(i)}, turns[1]] for i in range(20)]
    task = Pairs(write(lines([{"messages": each} for each in asked]), "rows.jsonl"))
    refuses(message, load_data, task)


def test_sizes_that_are_asked_for_are_not_cut(write):
    rows = [{"prompt": f"{i}+1=", "completion": str(i + 1)} for i in range(40)]
    path = write(lines(rows), "rows.jsonl")
    found = Pairs(path, dev_size=10).rows()
    assert [len(found[name]) for name in ("train", "dev", "test")] == [26, 10, 4]


def test_tokens_have_no_effect_with_a_tokenizer(write, refuses):
    task = Pairs(write(lines(ROWS), "rows.jsonl"), target_tokens="words")
    message = "pairs: target_tokens has no effect if the model has a tokenizer; leave it out"
    refuses(message, load_data, task, tokenizer=word_tokenizer())


def test_what_cannot_be_read_is_named(write, refuses, tmp_path):
    path = f"{tmp_path}/none.jsonl"
    refuses(f"{path}: there is no such file", Pairs(path).rows)
    path = write("a", "rows.doc")
    formats = ".jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .txt"
    message = f"files of rows end in {formats}, or with .gz after it"
    refuses(f"{path}: {message}", Pairs(path).rows)
    path = write(lines(ROWS), "rows.jsonl")
    refuses(f"{path}: it is a file, and has no subset 'de'", Pairs(path, subset="de").rows)
    path = write(lines(ROWS[:2]), "few.jsonl")
    refuses(f"{path}: 2 rows are too few to split", Pairs(path).rows)
    path = write(lines(ROWS[:10]), "ten.jsonl")
    message = f"{path}: of 10 rows, 1 for test and 9 for dev leave none to train on"
    refuses(f"{message}; set smaller sizes", Pairs(path, dev_size=9).rows)
    path = write(lines([{"question": "a"}] * 20), "other.jsonl")
    message = (
        "the columns are question; known are input_ids and labels; prompt and completion; "
        "messages; source and target; text (rename them, or choose others: --task.source_columns "
        "NAME --task.target_column NAME)"
    )
    refuses(f"{path}: {message}", Pairs(path).rows)
    path = write('{"prompt": "a"\n', "broken.jsonl")
    with pytest.raises(ValueError, match=r"broken\.jsonl, line 1: broken JSON "):
        Pairs(path).rows()


WORDS = [("ab", "A B"), ("ba", "B A"), ("aab", "A A B"), ("bb", "B B")]


def words(rows, separator="\t"):
    return "".join(f"{separator.join(row)}\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "contents", "settings"),
    [
        ("train.tsv", words(WORDS), {}),
        ("train.txt.gz", words(WORDS), {}),
        ("train.csv", words([("word", "sounds"), *WORDS], ","), {"target_column": "sounds"}),
        ("train.csv", words([("word", "sounds"), *WORDS], ","), {"header": True}),
        ("train.tsv", words([(t, "1", s) for s, t in WORDS]), {"target_column": 0}),
    ],
)
def test_words_and_sounds_in_any_columns(write, name, contents, settings):
    if isinstance(settings.get("target_column"), str):
        settings = {"source_columns": ("word",), **settings}
    elif settings.get("target_column") == 0:
        settings = {"source_columns": (2,), **settings}
    elif settings:
        settings = {"source_columns": (0,), "target_column": 1, **settings}
    splits = Pairs(write(contents, name), **settings, dev_size=1, test_size=1).rows()
    found = [(row["source"], row["target"]) for part in splits.values() for row in part]
    assert sorted(found) == sorted(WORDS)
    which = (
        "it is a row" if settings else "the first column is the source and the second the target"
    )
    named = (
        f"the first line has no names of columns that are known, so {which}: 'ab' → 'A B'; if "
        "these are names, choose the columns by them"
    )
    numbered = isinstance(settings.get("target_column", 0), int) and "header" not in settings
    assert (named in splits.notes) == numbered


SOUNDS = [(f"{a}{b}{c}", f"{a.upper()} {b} {c}") for a in "abc" for b in "xyz" for c in "mno"]


def test_symbols_between_spaces_are_the_tokens_of_targets(write):
    path = write(words(SOUNDS), "train.tsv")
    task, notes = Pairs(path).complete()
    assert (task.source_tokens, task.target_tokens) == ("characters", "symbols")
    assert notes == [
        f"targets are symbols between spaces, such as {task.rows()['train'][0]['target']!r}: "
        "target_tokens=symbols, source_tokens=characters; of pronunciations, sequence_error is the "
        "word error rate and token_error the phoneme error rate"
    ]
    assert [*task.get_metrics()] == ["sequence_error", "token_error"]
    assert task.complete() == (task, [])
    data = load_data(task)
    assert set(data.codec.target.symbols) == {*"ABCxyzmno", "<eos>"}
    assert not data.codec.shared
    # In Python, the same codec is learned from a task that is not complete.
    plain = load_data(Pairs(path))
    assert plain.codec.target == data.codec.target
    assert [note for note in plain.notes if note not in data.notes] == notes
    assert [*Pairs(path).get_metrics()] == ["exact_match", "character_error"]


@pytest.mark.parametrize(
    ("rows", "settings", "tokens"),
    [
        ([(t, t) for _, t in SOUNDS], {}, ("symbols", "symbols")),
        (SOUNDS, {"source_tokens": "bytes"}, ("bytes", "symbols")),
        (SOUNDS, {"target_tokens": "characters"}, (None, "characters")),
        ([(t, s) for s, t in SOUNDS], {}, (None, "bpe:1000")),
        ([(s, s) for s, _ in SOUNDS], {}, (None, "bpe:1000")),
    ],
)
def test_tokens_that_are_chosen(write, rows, settings, tokens):
    task, _ = Pairs(write(words(rows), "train.tsv"), **settings).complete()
    assert (task.source_tokens, task.target_tokens) == tokens


def test_tokens_of_running_text_are_not_chosen(write):
    texts = [{"text": f"a b c {i % 9}"} for i in range(20)]
    task, notes = Pairs(write(lines(texts), "rows.jsonl")).complete()
    assert (task.target_tokens, notes) == ("bpe:1000", [])


LISTS = [{"prompt": f"w{i}", "completion": [f"a{i}", f"b{i}"]} for i in range(20)]
LISTED = [{"source": f"w{i}", "target": [f"a{i}", f"b{i}", f"a{i}"]} for i in range(20)]
REPEATED = [(f"w{i}", f"{letter}{i}") for i in range(20) for letter in "ab"]
IN_COLUMNS = [(f"w{i}", f"a{i}", f"b{i}" if i % 2 else "") for i in range(20)]
COLUMNS = {"source_columns": (0,), "target_column": 1, "reference_columns": (2,)}


@pytest.mark.parametrize(
    ("name", "contents", "settings"),
    [
        ("rows.jsonl", lines(LISTED), {}),
        (
            "rows.jsonl",
            lines([{"prompt": r["source"], "completion": r["target"]} for r in LISTED]),
            {},
        ),
        ("rows.tsv", words(REPEATED), {"repeated": "references"}),
        ("rows.tsv", words(IN_COLUMNS), COLUMNS),
    ],
)
def test_several_references_of_a_source(write, name, contents, settings):
    task = Pairs(write(contents, name), **settings, target_tokens="characters")
    splits = task.rows()
    source, target = [*splits["dev"][0]][:2]
    letters = {"train": [], "dev": [], "test": []}
    for part, rows in splits.items():
        for row in rows:
            others = row.get("references", [])
            letters[part].append((row[target][0], *(each[0] for each in others)))
            assert {each[1:] for each in (row[target], *others)} == {row[source][1:]}
    # Each pair is a row to train on; in dev and test, each source is.
    assert set(letters["train"]) == {("a",), ("b",)}
    assert len(letters["dev"]) == len({row[source] for row in splits["dev"]}) == 2
    assert set(letters["dev"]) | set(letters["test"]) <= {("a", "b"), ("a",)}
    assert ("a", "b") in letters["dev"]
    assert any("rows of dev have several references, 2 at most" in note for note in splits.notes)
    data = load_data(task)
    outputs = [list(row) for row in data.dev.others[0].references]
    assert score(task.get_metrics(), data.codec, outputs, data.dev)["exact_match"] == 1
    (first, *_) = encode_file(task, data.codec, task.data).others
    assert len(first) == 20


@pytest.mark.parametrize("value", [["a.pdf", "b.pdf"], "a.pdf", 3, None])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_column_called_references_has_no_targets(write, name, value):
    rows = [{**row, "references": value} for row in ROWS]
    task = Pairs(write(lines(rows) if name == "rows.jsonl" else table(rows, ","), name))
    splits = task.rows()
    assert splits.notes == ["train 32, dev 4, test 4 rows"]
    found = [(row["prompt"], row["completion"]) for part in splits.values() for row in part]
    assert sorted(found) == sorted((row["prompt"], row["completion"]) for row in ROWS)
    data = load_data(task, tokenizer=byte_tokenizer())
    assert (len(data.train), list(data.dev.others)) == (32, [])
    assert list(encode_file(task, data.codec, task.data).others) == []
    merged = replace(task, repeated="references").rows()
    assert merged["dev"] == [{**row, "references": []} for row in splits["dev"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": f"abc {i}"} for i in range(20)],
            "dev: rows of text have no references; set repeated to examples, or leave it out",
        ),
        (
            [chat(f"q{i}", "a") for i in range(20)],
            "dev: rows of messages have no references; set repeated to examples, or leave it out",
        ),
        (
            [{"prompt": f"{i}"} | ({} if i else {"completion": "a"}) for i in range(20)],
            "{path}, line 2: the completion is None; with repeated=references it must be text",
        ),
    ],
)
def test_rows_without_references_cannot_be_merged(write, refuses, rows, message):
    path = write(lines(rows), "rows.jsonl")
    task = Pairs(path, repeated="references")
    if "{path}" in message:
        refuses(message.format(path=path), task.read_examples, path)
        return
    refuses(message, task.rows)
    refuses(message.replace("dev", path), task.read_examples, path)


def test_repeated_sources_are_examples_of_their_own_by_default(write):
    splits = Pairs(write(words(REPEATED), "rows.tsv")).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 32, "dev": 4, "test": 4}


def test_a_name_that_is_misspelt_is_no_row(write, refuses):
    path = write(words([("prompt", "the complection"), *WORDS]), "train.tsv")
    message = (
        f"{path}: the columns are prompt, the complection; known are input_ids and labels; prompt "
        "and completion; messages; source and target; text (rename them, or choose others: "
        "--task.source_columns prompt --task.target_column 'the complection')"
    )
    refuses(message, Pairs(path).rows)


def test_dev_and_test_in_files_of_their_own(write):
    dev, test = write(words(WORDS[:1]), "some_dev.tsv"), write(words(WORDS[1:2]), "some_test.tsv")
    task = Pairs(write(words(WORDS[1:]), "some_train.tsv"), dev=dev, test=test)
    splits = task.rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "dev": 1, "test": 1}
    assert splits.notes[1:] == [
        "1 sources of test are also in train",
        "train 3, dev 1, test 1 rows",
    ]
    rows = task.read_examples(dev)
    assert [(row["source"], row["target"], row.place) for row in rows] == [
        ("ab", "A B", f"{dev}, line 1")
    ]


def test_dev_has_the_columns_of_train(write, refuses):
    train = write(words([("prompt", "completion"), *WORDS]), "some_train.tsv")
    dev = write(words([("Prompt", "Completion"), *WORDS]), "some_dev.tsv")
    message = (
        f"{dev}: its rows are read as source and target, and those of {train} as prompt and "
        "completion; give them columns with the same names"
    )
    refuses(message, Pairs(train, dev=dev, test=train).rows)
    refuses(message, Pairs(train, test=dev).rows)
    train = write(words([("source", "target"), *WORDS]), "some_train.tsv")
    notes = Pairs(train, dev=dev, test=train).rows().notes
    assert notes[0] == (
        f"{dev}: the first line has no names of columns that are known, so the first column is the "
        "source and the second the target: 'Prompt' → 'Completion'; if these are names, choose the "
        "columns by them"
    )
    assert notes[1] == "4 sources of dev are also in train"


def test_sources_and_targets_line_by_line(write, refuses):
    files = {
        name: write("\n".join(row[i] for row in WORDS), name)
        for i, name in enumerate(("source", "target"))
    }
    task = Pairs(files["source"], targets=files["target"], dev_size=1, test_size=1)
    rows = [row for part in task.rows().values() for row in part]
    assert sorted((row["source"], row["target"]) for row in rows) == sorted(WORDS)
    short = write("A B\n", "short")
    message = (
        f"{files['source']} has 4 lines, and {short} has 1; each line of one must translate the "
        "same line of the other"
    )
    refuses(message, Pairs(files["source"], targets=short).rows)


FORMS = [("go", "went", "V;PST"), ("go", "goes", "V;PRS"), ("be", "was", "V;PST")]


def test_a_lemma_and_its_features_are_one_source(write, refuses):
    path = write(words(FORMS), "forms.tsv")
    task = Pairs(path, source_columns=(0, 2), target_column=1, column_separator="#")
    rows = task.read_examples(path)
    assert [(row["source"], row["target"]) for row in rows] == [
        ("go#V;PST", "went"),
        ("go#V;PRS", "goes"),
        ("be#V;PST", "was"),
    ]
    choice = task.columns
    assert choice.convert_line("go\tV;PST", "-, line 1") == "go#V;PST"
    assert choice.convert_line("go#V;PST", "-, line 1") == "go#V;PST"
    with raises(DataError, "-, line 1: 3 columns between tabs; a source has 2: 0, 2"):
        choice.convert_line("go\tV\tPST", "-, line 1")
    assert list(choice.read_sources(path)) == [(1, "go#V;PST"), (2, "go#V;PRS"), (3, "be#V;PST")]
    named = write(words([("lemma", "form", "tags"), *FORMS[:1]]), "named.tsv")
    choice = replace(choice, source=("lemma", "tags"), target="form")
    (line,) = choice.read_sources(named)
    assert json.loads(line[1])["source"] == "go#V;PST"
    assert json.loads(choice.convert_line('{"lemma": "a", "tags": "b"}', ""))["source"] == "a#b"
    message = f"{named}: no column word; it has lemma, form, tags"
    refuses(
        message, replace(task, source_columns=("word",), target_column="form").read_examples, named
    )
    message = f"{path}: no column 3; there are 3, counted from 0"
    refuses(message, replace(task, target_column=3).read_examples, path)
    message = (
        f"{path}, line 1: the columns are go, went, V;PST; known names are input_ids and labels; "
        "prompt and completion; messages; source and target; text. Choose others by "
        "source_columns and target_column, by their names or by their numbers from 0"
    )
    refuses(message, Pairs(path).rows)
    broken = write("a\tb\nc\n", "broken.tsv")
    refuses(f"{broken}, line 2: 1 cell; line 1 has 2", Pairs(broken).rows)


@pytest.mark.parametrize(
    ("names", "tokenizer"),
    [
        (("source", "features", "form"), None),
        (("prompt", "context", "answer"), None),
        (("text", "messages", "target"), None),
        (("prompt", "response"), byte_tokenizer()),
    ],
)
def test_rows_to_predict_from_are_read_as_those_trained_on(write, names, tokenizer):
    *sources, target = names
    rows = [{name: f"{name} {i}" for name in names} for i in range(20)]
    path = write(table(rows, ","), "rows.csv")
    tokens = {} if tokenizer else {"target_tokens": "characters"}
    task = Pairs(path, source_columns=tuple(sources), target_column=target, **tokens)
    codec = load_data(task, tokenizer=tokenizer).codec
    expected = encode_file(task, codec, path).batch(range(20)).source
    text = " ".join(rows[3][name] for name in sources)
    written = decode_tokens(codec.tokenizer, expected.values[3][expected.mask[3]].tolist())
    assert written == (text + "\n" if tokenizer else text)
    policy = RecurrentSettings(hidden_size=4, embedding_size=3).build(codec).eval()
    for name, contents in (
        ("new.csv", table(rows, ",")),
        ("new.tsv", table(rows, "\t")),
        ("new.json", json.dumps(rows)),
        ("new.jsonl", lines(rows)),
        ("new.txt", "".join("\t".join(row[name] for name in sources) + "\n" for row in rows)),
    ):
        new = write(contents, name)
        read = policy, codec, task, stream_lines(new), new, Decoding(), 20
        ((batch, found),) = stream_batches(*read)
        assert batch.source.values.equal(expected.values)
        assert batch.source.mask.equal(expected.mask)
        if name != "new.txt":
            output = json.loads(codec.write([], found[3]))
            assert output == {**rows[3], "source": text, "target": ""}


def test_a_task_whose_tokenizer_is_gone(write, refuses, tmp_path):
    path = f"{tmp_path}/gone/tokenizer.json"
    task = Pairs(write(lines(ROWS), "rows.jsonl"), target_tokens=path)
    assert build(Pairs, to_dict(task), "task") == task
    assert [*task.get_metrics()] == ["exact_match", "character_error"]
    refuses(f"{path}: there is no such file", load_data, task)


def test_a_vocabulary_that_knows_little_of_dev_is_refused(write, refuses):
    rows = [{"source": f"w{i}", "target": f"w{i} w{i}"} for i in range(40)]
    task = Pairs(write(lines(rows), "rows.jsonl"), target_tokens="words")
    message = (
        "the target tokens that are learned from train know only 0.0% of those of dev; set "
        "target_tokens to characters, bpe:1000 or bytes, which can read and write any word, or to "
        "symbols if tokens stand between spaces"
    )
    refuses(message, load_data, task)
    load_data(replace(task, target_tokens="characters+unk"))


@pytest.mark.parametrize(
    ("name", "what"),
    [("a b.csv", "it ends in .csv"), ("a.txt", "each line has columns between tabs")],
)
def test_running_text_is_not_a_table(write, refuses, name, what):
    path = write(words(WORDS * 3), name)
    message = (
        f"{path}: {what}, so it is a table; running text is needed here. For sources and targets "
        f"in columns: freerun train pairs --data {shlex.quote(path)}"
    )
    refuses(message, Spelling(data=path).rows)


def test_a_row_that_is_wrong_is_named(write, refuses):
    rows = [{"prompt": "a", "completion": " " if i == 7 else "b"} for i in range(10)]
    path = write(lines(rows), "rows.jsonl")
    message = f"{path}, line 8: the completion is empty"
    refuses(message, encode_file, Pairs(path), TextCodec(word_tokenizer()), path)


def test_datasets_must_be_installed(write, missing, refuses):
    path = write("", "rows.parquet")
    missing("pyarrow")
    message = f"reading {path} needs pyarrow, which is missing: pip install 'freerun[datasets]'"
    refuses(message, Pairs(path).rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_prompt": 0}, "max_prompt is 0; it must be at least 1"),
        ({"dev_size": 0}, "dev_size is 0; it must be at least 1"),
        ({"target_column": 1}, "target_column is given without source_columns"),
        (
            {"source_columns": (-1,), "target_column": 1},
            "column -1 is chosen; columns are counted from 0",
        ),
        ({"source_columns": (1,), "target_column": 1}, "column 1 is both a source and the target"),
        ({"dev_targets": "a"}, "dev_targets is given without dev, the file of the sources"),
        (
            {"dev": "a", "dev_targets": "b"},
            "dev_targets is given without targets, those of the training sources",
        ),
        (
            {"targets": "a", "dev": "b"},
            "dev has one source per line, as data has: give dev_targets",
        ),
        *(
            (
                {"targets": "a", **own},
                "files of sources and targets, line by line, have no columns to choose",
            )
            for own in ({"header": True}, {"reference_columns": (2,)})
        ),
        (
            {"truncation": "end"},
            "truncation is end, which has no effect without max_prompt or max_completion",
        ),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with raises(ValueError, message):
        Pairs("rows.jsonl", **settings)


def test_any_metric_may_be_the_headline(write):
    task = Pairs(write(lines(ROWS), "rows.jsonl"), extra_metrics=("token_error",))
    assert list(task.get_metrics()) == ["exact_match", "character_error", "token_error"]
    task = replace(task, headline="wer:normalizer=plain")
    found = task.get_metrics()
    assert list(found) == ["wer", "exact_match", "character_error", "token_error"]
    assert found["wer"].settings == {"normalizer": "plain"}
    assert next(iter(replace(task, headline="token_error").get_metrics())) == "token_error"


def test_tokens_of_a_trained_model_are_kept_and_a_note_says_so(write, tmp_path):
    rows = [{"source": f"{a}{b}", "target": f"{b}{a}"} for a in "abcd" for b in "abcdef"]
    task = Pairs(write(lines(rows), "rows.jsonl"), target_tokens="characters")
    codec = load_data(task).codec
    (tmp_path / "model").mkdir()
    codec.save_pretrained(str(tmp_path / "model"))
    model = PretrainedSettings(path=str(tmp_path / "model"))
    usual = model.load(replace(task, target_tokens="auto"))
    assert not [note for note in usual.notes if "no effect" in note]
    data = model.load(replace(task, source_tokens="words", target_tokens="words"))
    assert data.codec.target == codec.target
    assert data.notes[-1] == (
        f"source_tokens and target_tokens have no effect: the tokens are those of {model.path}"
    )


def test_a_row_that_is_far_longer_than_most_is_noted(write):
    rows = [{"source": f"{a}{b}", "target": f"{b}{a}"} for a in "abcd" for b in "abcdef"]
    rows += [{"source": "ab" * 300, "target": "ba"}] * 2
    path = write(lines(rows), "rows.jsonl")
    letters = {"source_tokens": "characters", "target_tokens": "characters"}
    data = load_data(Pairs(path, dev_size=1, test_size=1, **letters))
    found = [note for note in data.notes if "longest" in note]
    assert found == [
        "the longest source of train has 600 tokens, 300 times the median, and takes as much more "
        "memory: --task.max_prompt with --task.truncation drop leaves such rows out"
    ]
