"""Rows with the usual columns as tokens: seams, templates, eos, blocks, labels, and refusals."""

import json

import pytest

from freerun.data import TextCodec
from freerun.data.rows import parse_lines
from tests.tasks.tiny_tokenizers import CHAT, byte_tokenizer, piece_tokenizer, word_tokenizer

A, B, C, YES, NO, USER, ASSISTANT, COLON, PLUS, ONE, TWO = range(4, 15)
PAD, BOS, EOS, UNK = range(4)
TURNS = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]


def words(*, causal=True, bos=False, eos=False, special=None, **settings):
    tokenizer = word_tokenizer(bos=bos, eos=eos, **(special or {}))
    bos = None if causal else PAD
    return TextCodec(tokenizer, bos=bos, continues=causal, **settings)


def read(codec, *rows):
    """The tokens of prompts and completions, and the texts."""
    examples = codec.encode(rows)
    batch = examples.batch(range(len(examples)))
    prompts = [v[m].tolist() for v, m in zip(batch.source.values, batch.source.mask, strict=True)]
    targets = [v[m].tolist() for v, m in zip(batch.target, batch.mask, strict=True)]
    return prompts, targets, list(examples.texts)


def test_a_completion_follows_its_prompt_and_ends_in_eos():
    row = {"prompt": "a b", "completion": " c yes", "number": 7}
    assert read(words(), row) == ([[A, B]], [[C, YES, EOS]], [" c yes"])


def test_eos_is_learnt_where_it_is_the_padding_too():
    codec = words(special={"pad_token": None})
    assert codec.target.pad == codec.target.eos == EOS
    examples = codec.encode(
        [{"prompt": "a", "completion": " b"}, {"prompt": "a b", "completion": " b c c"}]
    )
    batch = examples.batch([0, 1])
    assert batch.target.tolist() == [[B, EOS, EOS, EOS], [B, C, C, EOS]]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert list(examples.references) == [[B], [B, C, C]]


def test_what_a_tokenizer_puts_around_text_stands_around_the_prompt_only():
    row = {"prompt": "a", "completion": " b"}
    assert read(words(bos=True), row)[:2] == ([[BOS, A]], [[B, EOS]])
    assert read(words(bos=True, eos=True), row)[:2] == ([[BOS, A]], [[B, EOS]])
    both = read(words(bos=True, eos=True, causal=False), row)
    assert both[:2] == ([[BOS, A, EOS]], [[BOS, B, EOS]])
    assert read(words(eos=True, causal=False), row)[:2] == ([[A, EOS]], [[B, EOS]])


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(
    ("prompt", "completion", "apart"),
    [
        ("Question: 1 + 1? Answer:", " yes, it is", False),
        ("Question: 1 + 1? Answer: ", "yes, it is", True),
        ("Question: 1 + 1? Ans", "wer: yes", True),
    ],
)
def test_the_prompt_has_the_tokens_that_it_has_alone(prompt, completion, apart, bos):
    tokenizer = byte_tokenizer(bos=bos)
    codec = TextCodec(tokenizer)
    (found,), (rest,), texts = read(codec, {"prompt": prompt, "completion": completion})
    assert found == tokenizer(prompt)["input_ids"]
    assert found == codec.read([prompt], "-").batch([0]).source.values[0].tolist()
    assert texts == [completion]
    assert tokenizer.decode(rest[:-1]) == completion
    whole = tokenizer(prompt + completion)["input_ids"]
    assert ([*found, *rest[:-1]] != whole) is apart


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("Question: 1 + 1? Answer:", " yes"), ("Question: 1 + 1? Answer: ", "yes"), ("Ans", "wer")],
)
def test_pieces_that_begin_with_a_space(prompt, completion):
    codec = TextCodec(piece_tokenizer())
    (found,), (rest,), _ = read(codec, {"prompt": prompt, "completion": completion})
    assert found == codec.tokenizer(prompt)["input_ids"]
    assert rest[-1] == codec.target.eos
    assert codec.target.bos not in rest
    assert codec.decode(rest) == completion.strip()


def test_sources_are_set_apart_from_their_targets_for_causal_models_only():
    tokenizer = byte_tokenizer()
    row = {"source": "7-4", "target": "3"}
    for settings, prompt in (
        ({}, "7-4\n"),
        ({"separator": " => "}, "7-4 => "),
        ({"bos": 0, "continues": False}, "7-4"),
    ):
        (found,), (rest,), texts = read(TextCodec(tokenizer, **settings), row)
        assert tokenizer.decode(found) == prompt
        assert tokenizer.decode(rest) == "3</s>"
        assert texts == ["3"]


@pytest.mark.parametrize(
    "row",
    [{"messages": TURNS}, {"prompt": TURNS[:1], "completion": TURNS[1:]}],
)
def test_the_chat_template_writes_conversations(row):
    codec = words(special={"chat_template": CHAT}, bos=True, eos=True)
    prompt = "<s>user : 1 + 1</s>\n<s>assistant : "
    (found,), (rest,), texts = read(codec, row)
    assert found == codec.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    # The template writes eos behind the answer, and a line break behind eos.
    assert (rest, texts) == ([TWO, EOS], ["2"])


def test_templates_get_tools_and_settings():
    template = "{{ tools[0].name if tools else '' }} {{ mood or '' }} " + CHAT
    codec = words(special={"chat_template": template})
    row = {"messages": TURNS, "tools": [{"name": "yes"}], "chat_template_kwargs": {"mood": "no"}}
    assert read(codec, row)[0][0][:2] == [YES, NO]
    assert YES not in read(codec, {"messages": TURNS, "tools": None})[0][0]


def test_fields_of_tools_that_a_dataset_adds_are_left_out():
    datasets = pytest.importorskip("datasets")
    template = "{{ 'yes' if 'b' in tools[0] else 'no' }} " + CHAT
    codec = words(special={"chat_template": template})
    rows = [{"messages": TURNS, "tools": [tool]} for tool in ({"a": "1"}, {"a": "1", "b": "2"})]
    rows.append({"messages": TURNS, "tools": [{"a": "1", "b": None}]})
    for given, last in ((rows, YES), (datasets.Dataset.from_list(rows), NO)):
        examples = codec.encode(given)
        firsts = [examples.batch([i]).source.values[0, 0].item() for i in range(3)]
        assert firsts == [NO, YES, last]  # JSON can say that there is nothing; Arrow cannot


def test_fields_of_messages_that_arrow_adds_are_left_out():
    template = CHAT.replace("m.content", "(m.keys() | length | string) + ' ' + m.content")
    codec = words(special={"chat_template": template})
    turns = [{**turn, "tool_calls": None} for turn in TURNS]
    assert read(codec, {"messages": turns})[1] == read(codec, {"messages": TURNS})[1]


def test_running_text_is_learnt_once_in_blocks():
    row = {"text": "a b c yes no"}
    assert read(words(), row) == ([[BOS]], [[A, B, C, YES, NO, EOS]], ["a b c yes no"])
    prompts, targets, texts = read(words(block=4), row, {"text": "1"})
    assert prompts == [[BOS], [YES], [BOS]]
    assert targets == [[A, B, C, YES], [NO, EOS], [ONE, EOS]]
    assert texts == ["a b c yes", "no", "1"]
    references = words(block=4).encode([row]).references
    assert list(references) == [[A, B, C, YES], [NO]]
    assert read(words(special={"bos_token": None}), row)[0] == [[EOS]]


def test_running_text_has_prompts_of_as_many_tokens_as_asked():
    rows = [{"text": "a b c yes no 1 2"}, {"text": "a"}, {"text": "a b c"}]
    codec = words(block=3, context=2, bos=True)
    examples = codec.encode(rows)
    assert examples.notes == ["1 of 3 texts were left out: they have at most 2 tokens"]
    prompts, targets, texts = read(codec, *rows)
    assert prompts == [[BOS, A], [C, YES], [ONE, TWO], [BOS, A]]
    assert targets == [[B, C, YES], [NO, ONE, TWO], [EOS], [B, C, EOS]]
    assert texts[-1] == "b c"
    rows = [{**row, "blocks": 1} for row in rows]
    assert read(codec, *rows)[0] == [[BOS, A], [BOS, A]]
    assert codec.read(['{"text": "a b c yes"}'], "-").batch([0]).source.values.tolist() == [
        [BOS, A, B, C, YES]
    ]


def test_every_token_behind_the_first_prompt_is_learnt_once():
    tokens = [*range(4, 15)] * 3
    text = words().tokenizer.decode(tokens)
    for context in (1, 2, 5):
        for block in (1, 3, 4, 100):
            codec = words(block=block, context=context)
            prompts, targets, _ = read(codec, {"text": text})
            assert [t for target in targets for t in target] == [*tokens[context:], EOS]
            read_so_far = tokens[:context]
            for prompt, target in zip(prompts, targets, strict=True):
                assert prompt == read_so_far[-context:]
                read_so_far += target


def test_texts_that_are_all_too_short(refuses):
    message = "the data: no text has more than 4 tokens, the length of a prompt"
    refuses(message, words(block=3, context=4).encode, [{"text": "a b c yes"}])
    message = "the data, row 0: blocks is 0; it must be a number of at least 1"
    refuses(message, words(block=3, context=1).encode, [{"text": "a b", "blocks": 0}])


def labelled(tokens, labels, **more):
    return {"input_ids": tokens, "labels": labels, **more}


def test_labels_say_what_is_learnt():
    rows = [
        labelled([A, B, C, EOS], [-100, -100, C, EOS]),
        labelled([A, B, C], [A, B, C]),
        labelled([PAD, A, B, PAD], [-100, -100, B, -100], attention_mask=[0, 1, 1, 0]),
        labelled([A, B, EOS, PAD], [-100, B, EOS, -100]),
    ]
    assert read(words(), *rows)[:2] == (
        [[A, B], [A], [A], [A]],
        [[C, EOS], [B, C], [B], [B, EOS]],
    )
    codec = words(special={"pad_token": None})
    assert read(codec, labelled([A, B, EOS, EOS], [-100, B, EOS, -100]))[1] == [[B, EOS]]
    row = labelled([A, B, PAD], [C, EOS, -100, -100], attention_mask=[1, 1, 0])
    assert read(words(causal=False), row)[:2] == ([[A, B]], [[C, EOS]])


PIECES = (
    "the data, row 0: tokens to learn end before token 2, where the label is -100; what is learned "
    "must be the end of a row, in one piece: make a row of each piece, with all that stands before "
    "it as its prompt"
)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (labelled([A, B, C, A], [-100, B, -100, A]), PIECES),
        (labelled([A, B, C], [-100, B, -100]), PIECES),
        (labelled([A, B], [-100, -100]),
         "the data, row 0: there are no tokens to learn; every label is -100"),
        (labelled([A], [A]), "the data, row 0: there are no tokens to learn; every label is -100"),
        (labelled([A, B, C], [-100, C, EOS]),
         "the data, row 0: token 1 is 5 in input_ids and 6 in labels, which must be equal or "
         "-100; labels are not shifted"),
        (labelled([A, B], [A]), "the data, row 0: 1 labels for 2 input_ids"),
        (labelled([A, 99], [-100, 99]), "the data, row 0: input_ids has 99; tokens lie in 0 … 22"),
        (labelled([A, -100], [A, -100]),
         "the data, row 0: input_ids has -100; tokens lie in 0 … 22"),
        (labelled("a b", [A]), "the data, row 0: input_ids is 'a b'; it must be a list of tokens"),
        (labelled([A, B], [-100, B], attention_mask=[1]),
         "the data, row 0: attention_mask and input_ids differ in length"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learnt(refuses, row, message):
    refuses(message, words().encode, [row])


def test_targets_of_encoder_decoders_are_one_piece(refuses):
    message = "the data, row 0: labels are -100 before the end of the target"
    rows = [labelled([A], [A, -100, B])]
    refuses(message, words(causal=False).encode, rows)


GOOD = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "row 1: the completion is empty"),
        ({"prompt": " \n", "completion": "a"}, "row 1: the prompt is empty"),
        ({"prompt": "a"}, "row 1: the completion is None; it must be text or messages"),
        ({"prompt": "a", "completion": 3},
         "row 1: the completion is 3; it must be text or messages"),
        ({"prompt": "a", "completion": TURNS[1:]},
         "row 1: prompt and completion must both be text, or both be messages"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]},
         "row 1: it has messages, and the data, row 0 has text; all rows must have the same"),
        ({"prompt": "a", "completion": "</s>"},
         "row 1: the text spells '</s>', a special token, which the tokenizer does not read as "
         "text; leave it out"),
        ({"prompt": [{"content": "a"}], "completion": TURNS[1:]},
         "row 1: message 0 of prompt has no role; it is {'content': 'a'}"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong_are_named(refuses, row, message):
    refuses(f"the data, {message}", words().encode, [GOOD, row])


def test_columns_that_are_unknown_are_named(refuses):
    known = (
        "known are input_ids and labels; prompt and completion; messages; source and target; text"
    )
    message = f"the data: the columns are question, answer; {known}"
    refuses(message, words().encode, [{"question": "a", "answer": "b"}])
    refuses("the data: there are no rows", words().encode, [])


def test_messages_that_cannot_be_learnt(refuses):
    codec = words(special={"chat_template": CHAT})
    for row, message in (
        (
            {"messages": TURNS[:1]},
            "the last message is by 'user'; it must be the assistant's, to be learned",
        ),
        ({"messages": TURNS[1:]}, "there is no message before the assistant's"),
        ({"messages": []}, "the messages is []; it must be a list of messages"),
        ({"messages": "hello"}, "the messages is 'hello'; it must be a list of messages"),
    ):
        refuses(f"the data, row 0: {message}", codec.encode, [row])
    message = (
        "the data, row 0: messages need a chat template, which the tokenizer does not have; set "
        "tokenizer.chat_template, or give text"
    )
    refuses(message, words().encode, [{"messages": TURNS}])


def test_templates_that_hide_the_answer_or_refuse(refuses):
    last = "{{ 'b' if messages[-1].role == 'user' else 'c' }} "
    codec = words(special={"chat_template": last + CHAT})
    message = (
        "the data, row 0: with the answer, the chat template writes something else before it, so "
        "the completion cannot be determined; use another template"
    )
    refuses(message, codec.encode, [{"messages": TURNS}])
    strict = "{{ raise_exception('no, no') }}"
    codec = words(special={"chat_template": strict})
    message = "the data, row 0: the chat template refuses it (no, no)"
    refuses(message, codec.encode, [{"messages": TURNS}])


def test_running_text_is_for_causal_models(refuses):
    message = (
        "the data, row 0: text without a prompt is for causal models; an encoder-decoder needs "
        "source and target"
    )
    refuses(message, words(causal=False).encode, [{"text": "a"}])
    message = "the data: block has no effect on rows of prompt; leave it out"
    refuses(message, words(block=3).encode, [GOOD])


LONG = {"prompt": "a b c a b", "completion": " 1 2 1 2"}


@pytest.mark.parametrize(
    ("settings", "prompt", "target", "notes"),
    [
        ({"max_prompt": 3, "truncation": "start"}, [BOS, A, B], [ONE, TWO, ONE, TWO, EOS],
         ["1 prompts of 2 were cut off at the start"]),
        ({"max_prompt": 3, "truncation": "end"}, [BOS, A, B], [ONE, TWO, ONE, TWO, EOS],
         ["1 prompts of 2 were cut off at the end"]),
        ({"max_completion": 3, "truncation": "start"}, [BOS, A, B, C, A, B], [ONE, TWO, ONE],
         ["1 completions of 2 were cut off at the end"]),
        ({"max_prompt": 2, "max_completion": 1, "truncation": "end"}, [BOS, A], [ONE], [
             "1 prompts of 2 were cut off at the end", "2 completions of 2 were cut off at the end",
         ]),
    ],
)  # fmt: skip
def test_long_rows_are_cut_as_the_user_says(settings, prompt, target, notes):
    codec = words(bos=True, **settings)
    examples = codec.encode([LONG, {"prompt": "c", "completion": "1"}])
    assert examples.notes == notes
    batch = examples.batch([0])
    assert (batch.source.values[0].tolist(), batch.target[0].tolist()) == (prompt, target)
    assert examples.texts[0] == " 1 2 1 2"
    ended = target[-1] == EOS
    assert next(iter(examples.references)) == target[: len(target) - ended]


def test_special_tokens_stay_at_the_ends_of_a_source_that_is_cut():
    for truncation, kept in (("start", [A, B]), ("end", [A, B])):
        codec = words(
            bos=True, eos=True, causal=False, max_prompt=4, truncation=truncation, limit=9
        )
        row = {"source": "a b c a b" if truncation == "start" else "a b c", "target": "1"}
        assert read(codec, row)[0] == [[BOS, *kept, EOS]]


def test_long_rows_are_left_out_where_asked(refuses):
    codec = words(max_prompt=2, truncation="drop")
    examples = codec.encode([LONG, GOOD, LONG], "x")
    assert (len(examples), examples.texts) == (1, ["b"])
    assert examples.notes == ["2 rows of 3 were left out: they are too long (x, row 0; x, row 2)"]
    message = "x, row 0 and all others are too long; raise max_prompt or max_completion"
    refuses(message, codec.encode, [LONG, LONG], "x")


def test_long_rows_are_refused_where_nothing_is_asked(refuses):
    message = (
        "x, row 1: the prompt has 5 tokens, more than 4; raise max_prompt, or choose truncation: "
        "start, end or drop"
    )
    refuses(message, words(max_prompt=4).encode, [GOOD, LONG], "x")
    message = (
        "x, row 1: the completion has 5 tokens, more than 4; raise max_completion or limit, or "
        "choose truncation: start, end or drop"
    )
    for settings in ({"max_completion": 4}, {"limit": 4}):
        refuses(message, words(**settings).encode, [GOOD, LONG], "x")
    several = f"{message} (2 of 3 rows are too long)"
    refuses(several, words(max_completion=4).encode, [GOOD, LONG, LONG], "x")


def test_a_prompt_is_never_cut_to_nothing(refuses):
    codec = words(bos=True, max_prompt=1, truncation="start")
    message = (
        "x, row 0: 1 tokens are too few for the special ones of the prompt and one more; raise "
        "max_prompt"
    )
    refuses(message, codec.encode, [LONG], "x")


def test_unknown_words_never_count_as_a_match():
    codec = words()
    assert codec.target.unknown == UNK
    assert read(codec, {"prompt": "a", "completion": "zebra"})[1] == [[UNK, EOS]]
    assert codec.decode([A, UNK, EOS]) == "a <unk>"


@pytest.mark.parametrize("make", [piece_tokenizer, byte_tokenizer])
@pytest.mark.parametrize("prompt", ["Question: 1 + 1? Answer: ", "Question: 1 + 1? Ans", "yes, "])
@pytest.mark.parametrize("completion", ["yes, it is", "wer: no", "12"])
def test_a_row_is_read_as_its_text(make, prompt, completion):
    codec = TextCodec(make())
    ((found,), (rest,), _) = read(codec, {"prompt": prompt, "completion": completion})
    whole = codec.tokenizer(prompt + completion)["input_ids"]
    assert codec.decode([*found, *rest]) == codec.tokenizer.decode(whole, skip_special_tokens=True)
    assert found == codec.tokenizer(prompt)["input_ids"]


@pytest.mark.parametrize(
    ("columns", "column", "kind"),
    [
        ("prompt source", "source", "source"),
        ("messages text", "text", "text"),
        ("input_ids prompt", "prompt", "prompt"),
        ("input_ids labels prompt", "prompt", "input_ids"),  # which it was trained on
        ("input_ids labels source", "source", "source"),
        ("messages source", "prompt", "messages"),
    ],
)
def test_the_column_of_rows_to_predict_from(columns, column, kind):
    line = json.dumps(dict.fromkeys(columns.split(), "a"))
    assert parse_lines([line], "rows.jsonl", column)[1] == kind
