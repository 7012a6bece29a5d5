"""The codec of a tokenizer: vocabulary, files, prompts to predict from; collating; whole tasks."""

import json
from contextlib import suppress

import pytest
import torch
from torch.utils.data import DataLoader

from freerun.batch import Batch
from freerun.data import DataError, TextCodec, TextCollator
from freerun.evaluation import score_outputs
from freerun.metrics import score, score_majority_guess
from freerun.tasks import (
    Arithmetic,
    Digits,
    Spelling,
    Translation,
    encode_file,
    load_codec,
    load_data,
)
from tests.codecs import source_texts
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import CHAT, byte_tokenizer, word_tokenizer

PAD, BOS, EOS, UNK, A, B, C, YES, NO = range(9)


def test_the_vocabulary_is_the_tokenizer_s():
    tokenizer = word_tokenizer()
    target = TextCodec(tokenizer).target
    assert target.symbols[:6] == ("<pad>", "<s>", "</s>", "<unk>", "a", "b")
    assert target.actions == target.size == len(tokenizer)
    assert (target.bos, target.pad, target.eos, target.unknown) == (BOS, PAD, EOS, UNK)
    codec = TextCodec(tokenizer, bos=PAD, continues=False)
    assert codec.target.bos == PAD
    assert codec.factors == (len(tokenizer),)
    assert codec.shared
    assert codec.features is None


def test_tokens_that_are_missing_fall_back_to_eos():
    target = TextCodec(byte_tokenizer()).target
    assert (target.bos, target.pad, target.eos, target.unknown) == (0, 0, 0, None)


def test_unused_tokens_are_named():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"a": 0, "</s>": 4}, unk_token="</s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    symbols = TextCodec(tokenizer).target.symbols
    assert symbols == ("a", "<unused 1>", "<unused 2>", "<unused 3>", "</s>")


def test_a_tokenizer_without_eos_is_refused(refuses):
    message = "the tokenizer has no eos token, which ends outputs: set its eos_token"
    refuses(message, TextCodec, word_tokenizer(eos_token=None))


def test_a_tokenizer_that_cannot_be_saved_is_refused(refuses):
    message = (
        "the tokenizer's chat_template has half of a surrogate pair (\\ud800 to \\udfff), which is "
        "not a character and cannot be saved"
    )
    refuses(message, TextCodec, word_tokenizer(chat_template="\ud800"))
    named = message.replace("chat_template", "\\ud800x")
    refuses(named, TextCodec, word_tokenizer(**{"\ud800x": 1}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        ({"block": 0}, "block is 0; it must be at least 1"),
        ({"max_prompt": 0}, "max_prompt is 0; it must be at least 1"),
        ({"max_completion": 0}, "max_completion is 0; it must be at least 1"),
        ({"limit": 5, "max_completion": 6}, "max_completion is 6, over the limit of 5 tokens"),
        (
            {"truncation": "middle"},
            "truncation is 'middle'; it must be one of error, start, end, drop",
        ),
        ({"column": "labels"}, "column is 'labels'; no line of text is that"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_that_are_wrong(settings, message):
    with raises(ValueError, message):
        TextCodec(word_tokenizer(), **settings)


CHANGED = {
    "limit": 40,
    "bos": 0,
    "pad": 1,
    "whitespace": "single",
    "normalization": "nfc",
    "continues": False,
    "source_eos": True,
    "column": "source",
    "separator": " ",
    "block": 3,
    "context": 2,
    "max_prompt": 30,
    "max_completion": 20,
    "truncation": "drop",
}


def test_a_codec_comes_back_as_it_was_saved(tmp_path):
    tokenizer = byte_tokenizer(bos=True, bos_token="<s>", chat_template=CHAT)
    folder = str(tmp_path / "new" / "folder")
    TextCodec(tokenizer, **CHANGED).save_pretrained(folder)
    found = load_codec(folder)
    assert type(found) is TextCodec
    assert {name: getattr(found, name) for name in CHANGED} == CHANGED
    assert found.target == TextCodec(tokenizer, **CHANGED).target
    assert found.tokenizer.chat_template == CHAT
    text = "Question: 3 + 4? Ünïcode\n"
    assert found.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    ("start", "first"),
    [(BOS, []), (EOS, [BOS]), (PAD, [BOS])],
    ids=["marian", "bart", "t5"],
)
def test_the_token_that_a_decoder_starts_with_is_not_written_again(start, first):
    # As transformers' run_speech_recognition_seq2seq.py does; cell 0 reads the start token.
    tokenizer = word_tokenizer(bos=True, eos=True)
    codec = TextCodec(tokenizer, bos=start, continues=False)
    batch = codec.encode([{"source": "a b", "target": "b c"}]).batch([0])
    assert batch.source.values.tolist() == [[BOS, A, B, EOS]]
    assert batch.target.tolist() == [[*first, B, C, EOS]]
    assert batch.inputs(start).tolist() == [[start, *first, B, C]]


def test_a_model_from_scratch_does_not_write_the_bos_of_its_tokenizer(tmp_path):
    word_tokenizer(bos=True, eos=True).save_pretrained(tmp_path)
    rows = [{"source": "a b", "target": "b c"}]
    codec = TextCodec.learn(rows, rows, target_tokens=str(tmp_path), source_tokens="words")
    assert codec.encode(rows).batch([0]).target.tolist() == [[B, C, EOS]]


def test_a_codec_stands_beside_the_configuration_of_any_model(tmp_path):
    TextCodec(word_tokenizer()).save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "some-model-of-tomorrow"}')
    assert load_codec(str(tmp_path)).target == TextCodec(word_tokenizer()).target


def test_what_is_wrong_with_a_saved_codec_is_named(refuses, tmp_path):
    codec = TextCodec(word_tokenizer())
    codec.save_pretrained(str(tmp_path))
    path = tmp_path / "codec.json"
    contents = json.loads(path.read_text())
    for changes, message in (
        ({"limit": "all"}, "the field 'limit' is \"all\"; it must be a whole number or null"),
        ({"bos": "a"}, "the field 'bos' is \"a\"; it must be a whole number or null"),
        ({"bos": -1}, "bos is -1; a token is at least 0"),
        ({"continues": 1}, "the field 'continues' is 1; it must be true or false"),
        ({"source": "x"}, "the field 'source' is \"x\"; it must be an object"),
        ({"truncation": 1}, "the field 'truncation' is 1; it must be text"),
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        (
            {"tokenizer": "x"},
            "unknown field 'tokenizer'; known are limit, bos, pad, whitespace, normalization, "
            "source, continues, source_eos, column, separator, block, context, max_prompt, "
            "max_completion, truncation",
        ),
    ):
        path.write_text(json.dumps(contents | changes))
        refuses(f"{path}: {message}", load_codec, str(tmp_path))
    path.write_text(json.dumps(contents))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    message = f"{tmp_path / 'tokenizer_config.json'}: there is no such file"
    refuses(message, load_codec, str(tmp_path))


def test_a_tokenizer_that_comes_with_code_is_not_run(tmp_path):
    TextCodec(word_tokenizer()).save_pretrained(str(tmp_path))
    config = tmp_path / "tokenizer_config.json"
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    config.write_text(json.dumps(json.loads(config.read_text()) | own))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with suppress(DataError):
        load_codec(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def prompts(codec, *lines):
    batch = codec.read(list(lines), "-").batch(range(len(lines)))
    rows = zip(batch.source.values, batch.source.mask, strict=True)
    return [codec.tokenizer.decode(values[mask]) for values, mask in rows]


def test_lines_are_prompts_as_in_training():
    plain = TextCodec(byte_tokenizer(bos=True, bos_token="<s>", chat_template=CHAT))
    for column, found in (
        ("prompt", "<s> 1 + 1?"),
        ("source", "<s> 1 + 1?\n"),
        ("messages", "<s>user :  1 + 1?</s>\n<s>assistant : "),
        ("text", "<s> 1 + 1?"),
    ):
        codec = TextCodec(plain.tokenizer, column=column)
        assert prompts(codec, " 1 + 1?") == [found]
    assert prompts(TextCodec(plain.tokenizer, column="source", bos=0, continues=False), "1") == [
        "<s>1"
    ]


USER = {"role": "user", "content": "1?"}
GIVEN = [
    ({"prompt": "1?", "id": 3}, "<s>1?", {"prompt": "1?", "id": 3, "completion": "yes"}),
    ({"source": "1?", "target": "no"}, "<s>1?\n", {"source": "1?", "target": "yes"}),
    ({"messages": [USER]}, "<s>user : 1?</s>\n<s>assistant : ",
     {"messages": [USER, {"role": "assistant", "content": "yes"}]}),
    ({"messages": [USER, {"role": "assistant", "content": "no"}]},
     "<s>user : 1?</s>\n<s>assistant : ",
     {"messages": [USER, {"role": "assistant", "content": "yes"}]}),
    ({"prompt": [USER]}, "<s>user : 1?</s>\n<s>assistant : ",
     {"prompt": [USER], "completion": [{"role": "assistant", "content": "yes"}]}),
    ({"text": "1?"}, "<s>1?", {"text": "1?", "completion": "yes"}),
    ({"input_ids": [5, 6]}, None, {"input_ids": [5, 6], "completion": "yes"}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt", "answered"), GIVEN)
def test_lines_may_be_objects_with_columns(row, prompt, answered):
    codec = TextCodec(byte_tokenizer(bos=True, bos_token="<s>", chat_template=CHAT))
    line = json.dumps(row)
    assert prompts(codec, line) == [prompt or codec.tokenizer.decode([5, 6])]
    tokens = [*codec.tokenizer("yes", add_special_tokens=False)["input_ids"], 0]
    assert json.loads(codec.write(tokens, [line])) == answered
    assert codec.write(tokens, ["1?"]) == codec.text(tokens) == "yes"


def test_outputs_are_written_in_one_line():
    codec = TextCodec(byte_tokenizer())
    tokens = codec.tokenizer(" one\ntwo \n")["input_ids"]
    assert codec.text([*tokens, 0, 7, 8]) == "one\\ntwo"
    assert codec.decode(tokens) == " one\ntwo \n"
    assert codec.normalize(codec.decode(tokens)) == "one\ntwo"
    assert codec.source_text(torch.tensor(tokens)) == "one\\ntwo"


def test_lines_that_cannot_be_read(refuses):
    codec = TextCodec(word_tokenizer(), max_prompt=2)
    for lines, message in (
        ([], "-: nothing to read"),
        (["a", " "], "-, line 2: there is no prompt"),
        (['{"prompt": "a"}', "b"], "-, line 2: it is not a JSON object, as other lines are"),
        (
            ['{"prompt": "a"}', '{"prompt": 1}'],
            "-, line 2: the prompt is 1; it must be text or messages",
        ),
        (["b", '{"prompt": "a"}'], "-, line 1: it is not a JSON object, as other lines are"),
        (
            ['{"a": 1}'],
            "-, line 1: the columns are a; known are input_ids; prompt; messages; source; text",
        ),
        (["a", "a b c"], "-, line 2: the prompt has 3 tokens, more than 2; raise max_prompt"),
    ):
        refuses(message, codec.read, lines, "-")
    message = "a.jsonl, line 1: broken JSON (Unterminated string starting at)"
    refuses(message, codec.read, ['{"prompt": "a'], "a.jsonl")
    cut = TextCodec(word_tokenizer(), max_prompt=2, truncation="start")
    assert prompts(cut, "a b c") == ["b c"]


ROWS = [{"prompt": f"a {i}", "completion": "b " * (i + 1)} for i in range(6)]


def test_rows_are_collated_as_examples_are_batched():
    codec = TextCodec(word_tokenizer())
    loader = DataLoader(ROWS, batch_size=3, collate_fn=TextCollator(codec))
    examples = codec.encode(ROWS)
    for start, tensors in zip((0, 3), loader, strict=True):
        batch, same = Batch.from_tensors(tensors), examples.batch(range(start, start + 3))
        for name, value in same.tensors().items():
            assert name == "ids" or torch.equal(tensors[name], value)
        assert batch.target_tokens().numel() == same.mask.sum()


def test_an_example_keeps_its_name_in_whatever_batch_it_comes():
    collate = TextCollator(TextCodec(word_tokenizer()))
    ids = collate(ROWS)["ids"]
    assert len(ids.unique()) == 6
    assert int(ids.min()) >= 0
    assert torch.equal(collate(ROWS[::-1])["ids"], ids.flip(0))
    assert collate(ROWS[4:5])["ids"] == ids[4]
    moved = [{"prompt": "a", "completion": "b b c"}, {"prompt": "a b", "completion": "b c"}]
    assert len(collate(moved)["ids"].unique()) == 2


def test_rows_that_cannot_be_collated(refuses):
    collate = TextCollator(TextCodec(word_tokenizer()))
    message = "the batch, row 1: the completion is empty"
    refuses(message, collate, [*ROWS[:1], {"prompt": "a", "completion": ""}])


def test_a_task_in_the_tokens_of_a_tokenizer():
    task = Arithmetic(train_size=60, dev_size=5, test_size=9)
    data, rows = load_data(task, tokenizer=byte_tokenizer()), task.rows()
    for name in ("train", "dev", "test"):
        part = getattr(data, name)
        assert list(part.texts) == [row["target"] for row in rows[name]]
        assert [data.codec.decode(row) for row in part.references] == list(part.texts)
        batch = part.batch([0])
        assert data.codec.tokenizer.decode(batch.source.values[0]) == rows[name][0]["source"] + "\n"
    longest = max(map(len, data.train.references))
    assert data.codec.limit == longest + longest // 2 + 1
    longest = max(max(map(len, getattr(data, n).references)) for n in ("train", "dev", "test")) + 1
    assert data.notes[:2] == rows.notes
    assert data.notes[2].startswith("the longest prompt has ")
    assert data.notes[2].endswith(f", the longest completion {longest}")
    assert len(data.notes) == 3
    assert data.codec.column == "source"


def test_outputs_are_scored_as_text(write):
    pytest.importorskip("sacrebleu")
    table = "".join(f"It is {i} now.\tNo, {i} it is.\n" for i in range(40))
    tokenizer = byte_tokenizer()
    for task in (
        Arithmetic(train_size=20, dev_size=5, test_size=4),
        Spelling(write(" ".join(str(i * i) for i in range(200)), "prose.txt"), length=20),
        Translation(write(table, "pairs.tsv")),
    ):
        data = load_data(task, tokenizer=tokenizer)
        right = [list(row) for row in data.test.references]
        found = score_outputs(task, data.codec, right, data.test)
        assert found.metrics["exact_match"] == 1
        assert found.metrics.get("character_error", 0) == 0
        assert found.metrics.get("bleu", 100) == pytest.approx(100)
        assert set(found.error_by_position) == {0}
        # White space around it does not count, nor what comes after eos.
        spaced = [[*tokenizer(" ")["input_ids"], *row, 0, 1] for row in right]
        metrics = task.get_metrics()
        assert score(metrics, data.codec, spaced, data.test)["exact_match"] == 1
        wrong = score(metrics, data.codec, [[*row, right[0][0]] for row in right], data.test)
        assert wrong["exact_match"] == 0
        assert 0 <= score_majority_guess(metrics, data)["exact_match"] < 1


def test_errors_of_characters_are_counted_in_the_text():
    codec = TextCodec(byte_tokenizer())
    rows = [{"source": "a", "target": "yes"}, {"source": "b", "target": "12345"}]
    examples = codec.encode(rows)
    written = codec.tokenizer(["yet", " 12345 "])["input_ids"]
    assert score(Arithmetic().get_metrics(), codec, written, examples) == {
        "exact_match": 1 / 2,
        "character_error": 1 / 8,
    }


def test_texts_that_a_tokenizer_alters_are_noted():
    task = Arithmetic(train_size=20, dev_size=5, test_size=9)
    data = load_data(task, tokenizer=word_tokenizer())
    wrong = sum(len(answer) > 1 for answer in data.test.texts)
    text = next(answer for answer in data.test.texts if len(answer) > 1)
    assert data.notes[-1] == (
        f"{wrong} targets of 9 of test are not what their tokens are read as, and so are never "
        f"right: {text!r} is read as '<unk>'"
    )


def test_the_data_of_a_trained_model_are_in_its_tokens():
    task = Arithmetic(train_size=60, dev_size=5, test_size=9)
    data = load_data(task, tokenizer=byte_tokenizer())
    again = load_data(task, data.codec)
    assert again.codec.limit == data.codec.limit
    for name in ("train", "dev", "test"):
        one, other = getattr(data, name), getattr(again, name)
        assert list(one.references) == list(other.references)
    short = Arithmetic(digits=1, train_size=60, dev_size=5, test_size=9)
    assert load_data(short, data.codec).codec.limit == data.codec.limit
    long = Arithmetic(digits=9, train_size=60, dev_size=5, test_size=9)
    assert load_data(long, data.codec).codec.limit > data.codec.limit
    own = load_data(task).codec
    again = load_data(task, own).codec
    assert (again.limit, again.target, again.factors) == (own.limit, own.target, own.factors)


def test_what_was_cut_off_is_told_once():
    task = Arithmetic(train_size=20, dev_size=5, test_size=5)
    data = load_data(task, tokenizer=byte_tokenizer(), max_completion=1, truncation="end")
    assert "test: 5 completions of 5 were cut off at the end" in data.notes
    assert not [note for note in data.notes if "are read as" in note]


def test_other_files_are_read_by_the_task(write):
    codec = TextCodec(byte_tokenizer(), column="source")
    found = encode_file(Arithmetic(), codec, write("1+1\n2\n2 + 3\n5"))
    assert found.texts == ["2", "5"]
    assert codec.source_text(found.batch([1]).source.values[0]) == "2 + 3"
    task, path = Spelling(noise=0.5), write("some words to misspell, some more of them")
    small = Spelling(path, length=4, dev_size=1, test_size=1)
    found, own = encode_file(task, codec, path), load_data(small).codec
    same = encode_file(task, own, path)
    assert list(found.texts) == [own.text(row) for row in same.references] == list(same.texts)
    expected = [text.strip() for text in source_texts(own, same)]
    assert source_texts(codec, found) == expected
    found = encode_file(Translation("pairs.tsv", lower=True), codec, write("It IS.\tEs ist.\n"))
    assert found.texts == ["es ist."]


def test_settings_take_the_place_of_the_task_s(refuses):
    task = Arithmetic(train_size=20, dev_size=5, test_size=5)
    data = load_data(
        task, tokenizer=byte_tokenizer(), separator=" = ", max_prompt=3, truncation="end"
    )
    assert data.codec.separator == " = "
    assert int(data.train.sources.lengths.max()) == 3
    assert "train: 20 prompts of 20 were cut off at the end" in data.notes
    message = (
        "separator stands between the columns source and target for causal models; it has no "
        "effect here"
    )
    refuses(message, load_data, task, tokenizer=byte_tokenizer(), start=0, separator=" ")
    message = "the task digits is not text, which a tokenizer needs; use a recurrent model"
    refuses(message, load_data, Digits(), tokenizer=byte_tokenizer())


def test_a_pretrained_tokenizer_may_keep_its_unknown_token_to_itself():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    codec = TextCodec(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>"))
    examples = codec.encode([{"prompt": "a b", "completion": " a"}])
    assert examples.batch([0]).source.values.tolist() == [[2, 0]]


def test_a_note_says_how_to_encode_prompts_that_the_tokenizer_would_end():
    ends = "The tokenizer puts </s> after every text, but not here after prompts: for `generate` "
    without = ends + "and `pipeline`, encode a prompt with `add_special_tokens=False`."
    assert TextCodec(byte_tokenizer(eos=True)).prompt_note == without
    both = byte_tokenizer(bos=True, eos=True)
    last = ends + "and `pipeline`, encode a prompt without its last 1 tokens."
    assert TextCodec(both).prompt_note == last
    assert TextCodec(both, continues=False).prompt_note is None
    assert TextCodec(both, column="messages").prompt_note is None
    assert TextCodec(byte_tokenizer(bos=True)).prompt_note is None
