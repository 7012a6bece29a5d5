"""The task text: paragraphs, splits, examples and their scores."""

import json
from itertools import pairwise

import pytest

from freerun.data import DataError, TextCodec
from freerun.data.prose import paragraphs, pieces
from freerun.tasks import TASKS, Continuation, load_codec, load_data
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
    prompts = [codec.source_text(row) for row in unpadded(batch.source.values, batch.source.mask)]
    return prompts, [row.tolist() for row in unpadded(batch.target, batch.mask)]


def unpadded(values, mask):
    return [row[there] for row, there in zip(values, mask, strict=True)]


def test_paragraphs_stand_between_empty_lines():
    text = "One\n  two \n\n\n \t\nthree\u00a0four\nfive\n"
    assert paragraphs(text) == ["One two", "three four five"]


def test_pieces_have_every_token_behind_the_first_prompt_in_one_target():
    tokens = list(range(20))
    found = [(list(p), list(rest[:5])) for p, rest in pieces(tokens, 3, 5, whole=True)]
    assert [token for _, target in found for token in target] == tokens[3:]
    assert [prompt for prompt, _ in found] == [[0, 1, 2], [5, 6, 7], [10, 11, 12], [15, 16, 17]]
    assert [p for p, _ in pieces(tokens, 3, 5, whole=False)] == [[0, 1, 2]]


def test_examples_are_beginnings_that_end_in_eos_where_the_paragraph_does(story):
    data = Continuation(story, prompt=10, length=20, whole=False).load()
    kept = [text for text in paragraphs(STORY) if len(text) > 10]
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
    data = Continuation(path, prompt=2, length=4, whole=False, dev_size=1, test_size=1).load()
    assert data.codec.limit == 4
    ended = [row[-1] == data.codec.target.eos for row in texts(data.codec, data.train)[1]]
    assert ended == [True, True, False, False]
    _, (last,) = texts(data.codec, data.test)
    assert data.codec.text(last) == "cdef"
    assert len(last) == 4


def test_whole_paragraphs_are_trained_on_and_beginnings_tested_on(story):
    some = Continuation(story, prompt=8, length=9, whole=False).load()
    whole = Continuation(story, prompt=8, length=9).load()
    assert len(whole.train) > 2 * len(some.train)
    assert texts(whole.codec, whole.test) == texts(some.codec, some.test)
    assert f"train has {len(whole.train)} pieces" in whole.notes


def test_splits_are_stretches_that_share_no_paragraph(write):
    parts = [f"the paragraph of number {i}" for i in range(40)]
    parts[39] = parts[33]
    path = write("\n\n".join(parts))
    data = Continuation(path, prompt=5, length=30, whole=False).load()
    codec = data.codec
    found = {}
    for name in ("train", "dev", "test"):
        prompts, rows = texts(codec, getattr(data, name))
        found[name] = [p + codec.text(row) for p, row in zip(prompts, rows, strict=True)]
    assert found == {"train": parts[:32], "dev": parts[32:36], "test": parts[36:39]}
    assert data.notes[:2] == [
        "1 paragraphs of test were left out: they also stand in train or dev",
        "train 32, dev 4, test 3 paragraphs",
    ]


def test_notes_say_what_was_left_out_and_what_people_score(story):
    data = Continuation(story, prompt=10, length=20, train_size=5).load()
    short = sum(len(text) <= 10 for text in paragraphs(STORY))
    assert f"{short} of 27 paragraphs were left out: they have at most 10 characters" in data.notes
    assert "train was cut from 17 paragraphs to 5, drawn by seed" in data.notes
    assert "train 5, dev 1, test 2 paragraphs" in data.notes
    assert data.notes[-1].startswith("the targets of test themselves have entropy ")


def test_what_gutenberg_adds_is_left_out(write):
    begin, end = (f"*** {word} OF THIS PROJECT GUTENBERG EBOOK X ***" for word in ("START", "END"))
    path = write(f"the licence\n\n{begin}\n\n{STORY}\n\n{end}\n\nmore of it", "book.txt.gz")
    data = Continuation(path, prompt=4, length=8).load()
    assert data.notes[0] == "the header and the licence of Project Gutenberg were left out"
    assert texts(data.codec, data.train)[0][0] == "Part"


def test_characters_that_come_once_are_unknown(write):
    path = write("\n\n".join(["abab%abab", *["abba baab"] * 8, "ab#aab", "abbbbab ~"]))
    data = Continuation(path, prompt=2, length=12, dev_size=1, test_size=1).load()
    codec = data.codec
    assert codec.symbols == (" ", "a", "b")
    assert codec.target.unknown == 0
    row = texts(codec, data.test)[1][0]
    assert codec.text(row) == "bbbab <unk>"
    assert "3 characters are known; 11.11% of those of test are not" in data.notes
    right = next(iter(data.test.references))
    assert Continuation(path).score(codec, [right], data.test)["ms_jaccard"] < 1


def test_byte_pair_tokens_are_learnt_of_train(story):
    data = Continuation(story, tokens="bpe", size=300, prompt=4, length=6).load()
    codec = data.codec
    assert 256 < len(codec.symbols) <= 300
    prompts, rows = texts(codec, data.train)
    read = next(text for text in paragraphs(STORY) if len(codec.encode(text)) > 4)
    assert f" {read}".startswith(prompts[0] + codec.text(rows[0]))
    assert codec.decode(codec.encode("so, Zoë?")) == " so, Zoë?"
    assert codec.target.unknown is None


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_a_codec_is_kept(story, tmp_path, tokens):
    size = 260 if tokens == "bpe" else None
    codec = Continuation(story, tokens=tokens, size=size, prompt=4, length=6).load().codec
    for each in (codec, codec.with_backspace()):
        each.save_pretrained(str(tmp_path))
        assert load_codec(str(tmp_path)) == each


def test_a_codec_file_that_is_wrong_is_refused(story, tmp_path, refuses):
    codec = Continuation(story, prompt=4, length=6).load().codec
    codec.save_pretrained(str(tmp_path))
    path = tmp_path / "codec.json"
    contents = json.loads(path.read_text()) | {"tokens": "words"}
    path.write_text(json.dumps(contents))
    refuses(f"{path}: tokens is 'words'; it must be characters or bpe", load_codec, str(tmp_path))


def test_a_backspace_leaves_targets_as_they_are(story):
    data = Continuation(story, prompt=4, length=6).load()
    codec, other = data.codec, data.codec.with_backspace()
    assert other.target.backspace == codec.target.actions
    assert other.target.symbols[:-1] == codec.target.symbols
    assert other.limit == 9
    assert codec.limit == 6
    assert other.encode("the town") == codec.encode("the town")
    assert other.factors == codec.factors
    assert other.shared


def test_prompts_to_predict_from(story):
    codec = Continuation(story, prompt=6, length=6).load().codec
    sources = codec.read(["Anna  went", "the ", "to"], "in")
    batch = sources.batch(range(3))
    rows = unpadded(batch.source.values, batch.source.mask)
    assert [codec.source_text(row) for row in rows] == ["a went", "the ", "to"]
    assert codec.write(codec.encode(" to"), ["Anna went"]) == " to"
    for lines, message in (
        ([], "in: nothing to read"),
        (["a", " "], "in, line 2: there is no prompt"),
    ):
        with pytest.raises(DataError) as caught:
            codec.read(lines, "in")
        assert str(caught.value) == message


def test_another_file_is_evaluated_by_its_beginnings(story, write, refuses):
    codec = Continuation(story, prompt=6, length=6).load().codec
    path = write("Fay went\nto town.\n\nshort\n", "other.txt")
    prompts, rows = texts(codec, codec.evaluation(path))
    assert prompts == ["Fay we"]
    assert codec.text(rows[0]) == "nt to "
    path = write("short\n", "none.txt")
    message = f"{path}: no paragraph has more than 6 characters, the length of a prompt"
    refuses(message, codec.evaluation, path)
    message = f"{path}: no paragraph has more than 6 words, the length of a prompt"
    text = TextCodec(byte_tokenizer())
    refuses(message, Continuation(story, prompt=6).evaluation, text, path)


def test_scores_look_at_no_more_than_a_target_may_have(story):
    task = Continuation(story, prompt=6, length=6)
    data = task.load()
    right = list(data.test.references)
    found = task.score(data.codec, right, data.test)
    assert found["ms_jaccard"] == pytest.approx(1.0)
    assert list(found) == ["ms_jaccard", "entropy", "diversity", "repetition"]
    longer = [row + [1] * 9 if len(row) == 6 else row for row in right]
    assert task.score(data.codec, longer, data.test) == found
    empty = task.score(data.codec, [[] for _ in right], data.test)
    assert empty["ms_jaccard"] == 0


def test_errors_by_position_are_not_aligned(story):
    task = Continuation(story)
    assert task.position_errors([1, 2, 3], [1, 3, 3, 4]) == [False, True, False, True]
    assert task.position_errors([1, 2, 3, 4], [1, 2]) == [False, False]
    assert task.position_errors([1], [-1]) == [True]


def test_the_majority_guess_is_text_of_training(write):
    path = write("\n\n".join([*["ab" + "c" * 9] * 18, "abd", "abdd", "abddd"]))
    task = Continuation(path, prompt=2, length=20, dev_size=1, test_size=2)
    data = task.load()
    assert task.majority(data) == task.score(data.codec, [[3] * 9] * 2, data.test)
    assert data.codec.encode("c") == [3]


def test_a_tokenizer_reads_and_writes_as_many_tokens(story):
    tokenizer = byte_tokenizer(size=280)
    data = load_data(Continuation(story, prompt=5, length=7), tokenizer=tokenizer)
    codec = data.codec
    batch = data.train.batch(range(len(data.train)))
    assert batch.source.lengths.unique().tolist() == [5]
    assert batch.lengths.max() == 7
    text = paragraphs(STORY)[1].split()
    words = " ".join(text[:5]), " ".join(["", *text[5:]])
    prompt = tokenizer(words[0])["input_ids"][-5:]
    assert batch.source.values[0].tolist() == prompt
    rest = tokenizer(words[1])["input_ids"]
    assert batch.target[0][batch.mask[0]].tolist() == rest[:7]
    ends = {row[-1].item() for row in unpadded(batch.target, batch.mask)}
    assert len(ends - {codec.target.eos}) > 1
    assert Continuation(story, prompt=5, length=7).score(
        codec, list(data.test.references), data.test
    )["ms_jaccard"] == pytest.approx(1.0)


def test_settings_of_own_tokens_have_no_effect_with_a_tokenizer(story, refuses):
    message = "text: tokens has no effect where the model has a tokenizer; leave it out"
    refuses(message, Continuation(story, tokens="bpe").rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": 0}, "prompt is 0; it must be at least 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"test_size": 0}, "test_size is 0; it must be at least 1"),
        ({"tokens": "bpe", "size": 256}, "size is 256; it must be at least 257"),
        ({"size": 500}, "size has no effect on characters; set tokens to bpe"),
        ({"states": "last"}, "states has no effect without features"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Continuation("book.txt", **settings)
    assert str(caught.value) == message


def test_text_in_one_paragraph_is_refused(write, refuses):
    path = write("\n".join(f"a line of number {i}" for i in range(50)))
    message = (
        f"{path}: of 1 paragraphs 1 have more than 32 characters, the length of a prompt, which "
        "are too few to split; paragraphs have an empty line between them"
    )
    refuses(message, Continuation(path).load)


def test_datasets_keep_their_splits(local_datasets, tmp_path):
    column = [text for text in paragraphs(STORY) if len(text) > 10]
    parts = {"train": column[:8], "validation": column[8:10], "test": [*column[10:12], column[0]]}
    made = {k: local_datasets.Dataset.from_dict({"text": v}) for k, v in parts.items()}
    local_datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    data = Continuation(str(tmp_path / "saved"), prompt=6, length=8, whole=False).load()
    assert [len(data.train), len(data.dev), len(data.test)] == [8, 2, 3]
    assert "1 paragraphs of test also stand in train or dev" in data.notes


def test_real_text(real):
    task = Continuation(real("text/2701-0_moby_dick.txt.gz"), train_size=300, whole=False)
    data = task.load()
    assert len(data.train) == 300
    assert 0.4 < task.majority(data)["ms_jaccard"] < 0.9
    assert TASKS["text"] is Continuation
