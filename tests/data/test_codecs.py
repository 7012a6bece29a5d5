"""Codecs of all kinds: what they read and write, on disk, with a backspace, and what is refused."""

import json

import numpy as np
import pytest
import torch

from freerun.data import CODEC_FILE, FactorCodec, FeatureCodec, TextCodec, Tokens
from freerun.data.encoding import RowEncoder
from freerun.data.rows import PromptPair
from freerun.models import RecurrentConfig
from freerun.tasks import load_codec
from freerun.vocabulary import Vocabulary
from tests.helpers import raises

TEXTS = ["Tom comes, I'm here.", "he comes (late).", "Tom comes late"]
ROWS = [
    {"source": source, "target": target}
    for source, target in zip(["tom kommt", "er kommt", "tom ist da"], TEXTS, strict=True)
]
LABELED = [
    {"features": np.eye(3)[:2], "target": "ab"},
    {"features": np.ones((1, 3)), "target": "b"},
]
TAGGED = [
    {"tokens": ["Köln", "ist", "Köln"], "tags": ["B-LOC", "O", "B-LOC"]},
    {"tokens": ["Da", "ist"], "tags": ["O", "O"]},
]
SPECS = ["characters", "characters+unk", "symbols", "symbols:3", "words", "words:4", "bpe:270",
         "bytes"]  # fmt: skip


def text_codec(target, source="characters", **settings):
    return TextCodec.learn(ROWS, [], target_tokens=target, source_tokens=source, **settings)


def codecs():
    found = {f"text, {spec}": text_codec(spec) for spec in SPECS}
    found["text, one tokenizer"] = text_codec("bpe:260", None)
    found["text, fixed length"] = TextCodec.learn(
        [{"source": "abc", "target": "cab"}], [], target_tokens="characters",
        source_tokens="characters", fixed_length=True,
    )  # fmt: skip
    found["features"] = FeatureCodec.learn(LABELED, [], target_tokens="characters")
    found["features, fixed length"] = FeatureCodec.learn(
        LABELED, [], target_tokens="characters", fixed_length=True
    )
    found["factors"] = FactorCodec.learn(TAGGED)
    return found


CODECS = codecs()


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_codec_comes_back_as_it_was_saved(tmp_path, codec):
    folder = tmp_path / "new" / "folder"
    codec.save_pretrained(str(folder))
    for found in (load_codec(str(folder)), type(codec).from_pretrained(str(folder))):
        assert type(found) is type(codec)
        assert found.target == codec.target
        assert (found.features, found.factors) == (codec.features, codec.factors)
        assert (found.limit, found.shared) == (codec.limit, codec.shared)
        if isinstance(codec, TextCodec) and codec.limit is not None:
            one, other = (each.encode(ROWS).batch([0, 1, 2]) for each in (codec, found))
            assert torch.equal(one.source.values, other.source.values)
            assert torch.equal(one.target, other.target)
            tokens = next(iter(codec.encode(ROWS).references))
            assert found.decode(tokens) == codec.decode(tokens)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_codec_describes_a_policy(codec):
    config = RecurrentConfig.from_vocabulary(
        codec.target, features=codec.features, factors=codec.factors, limit=codec.limit
    )
    assert config.vocabulary == codec.target
    assert (codec.features is None) != (not codec.factors)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_backspace_moves_no_token(codec, tmp_path):
    if codec.limit is None:
        message = "outputs without eos cannot have a backspace"
        with raises(ValueError, message):
            codec.with_backspace()
        return
    found = codec.with_backspace()
    assert found.target == codec.target.with_backspace()
    assert found.with_backspace() is found
    assert (found.factors, found.features, found.limit) == (
        codec.factors,
        codec.features,
        codec.limit,
    )
    found.save_pretrained(str(tmp_path))
    assert load_codec(str(tmp_path)).target == found.target
    if isinstance(codec, TextCodec):
        one, other = (each.encode(ROWS).batch([0, 1, 2]) for each in (codec, found))
        assert torch.equal(one.source.values[one.source.mask], other.source.values[one.source.mask])
        assert torch.equal(one.target[one.mask], other.target[one.mask])
        assert int(other.source.values.max()) < codec.factors[0]


def test_ids_are_symbols_then_eos_then_bos_and_padding():
    codec = text_codec(Tokens("characters", alphabet="cab"), Tokens("characters", alphabet="ba"))
    assert codec.target == Vocabulary.build("cab", eos=True)
    assert codec.factors == (Vocabulary.build("ba", eos=False).size,)
    codec = text_codec("characters+unk")
    assert codec.target.symbols[0] == "<unk>"
    assert codec.target == Vocabulary.build(codec.target.symbols[1:-1], eos=True, unknown=True)
    same = Tokens("characters", alphabet="ab")
    assert text_codec(same, same).factors == (Vocabulary.build("ab", eos=True).size,)


def test_a_source_that_shares_the_tokens_of_its_target_ends_in_eos():
    codec = text_codec("bytes", None)
    examples = codec.encode([{"source": "ab", "target": "b"}])
    a, b = (codec.target.ids[character] for character in "ab")
    assert examples.batch([0]).source.values.tolist() == [[a, b, codec.target.eos]]
    assert codec.read(["ab"], "-").batch([0]).source.values.tolist() == [[a, b, codec.target.eos]]
    assert codec.source_text(examples.batch([0]).source.values[0]) == "ab"
    assert codec.shared
    assert codec.factors == (codec.target.size,)


def test_what_closed_tokens_do_not_know_is_no_action():
    codec = text_codec("symbols", "characters")
    examples = codec.encode(
        [
            {"source": "toX", "target": "Tom"},
            {"source": "tom", "target": "tom comes", "where": "f.txt, line 3"},
        ]
    )
    batch = examples.batch([0, 1])
    assert batch.source.values[0, 2] == codec.factors[0] - 1
    assert codec.source_text(batch.source.values[0]) == "to<unk>"
    assert batch.target[1, 0] == codec.target.pad >= codec.target.actions
    assert codec.text(examples.references[1]) == "<unk> comes"
    assert examples.notes == ["1 of 2 sources have symbols that are unknown"]
    (message,) = examples.unseen
    assert message.startswith(
        "f.txt, line 3: the target has 'tom', which the training data does not have; it has "
    )
    assert message.endswith('(to read others as <unk>, set target_tokens to "symbols+unk")')


def test_unseen_symbols_of_shared_tokens_are_named_by_side_and_setting(refuses):
    rows = [{"prompt": "ab", "completion": "ba"}]
    codec = TextCodec.learn(rows, [], target_tokens="characters", source_tokens=None)
    (message,) = codec.encode([{"prompt": "ab", "completion": "bz"}]).unseen
    assert message == (
        "the data, row 0: the target has 'z', which the training data does not have; it has 'ab' "
        '(to read others as <unk>, set target_tokens to "characters+unk")'
    )
    closed = RowEncoder(codec.tokenizer)
    refuses(message, closed.encode, [PromptPair("the data, row 0", "ab", "bz")])
    message = message.replace("the target", "the source")
    refuses(message, closed.encode, [PromptPair("the data, row 0", "az", "bz")])


def test_unknown_tokens_are_shown_as_asked():
    codec = text_codec("words:4")
    (tokens,) = codec.encode([{"source": "er", "target": "Tom comes twice."}]).references
    assert tokens.count(codec.target.unknown) == 1
    assert codec.decode(tokens) == "Tom comes <unk>."


def test_outputs_of_fixed_length(refuses):
    codec = CODECS["text, fixed length"]
    assert (codec.limit, codec.target.eos) == (None, None)
    batch = codec.encode([{"source": "ab", "target": "ba"}, {"source": "c", "target": "a"}])
    assert batch.batch([0, 1]).target.tolist() == [[1, 0], [0, codec.target.pad]]
    message = (
        "the data, row 0: the source has 2 tokens, and the target 1; the outputs of this task are "
        "as long as their sources"
    )
    refuses(message, codec.encode, [{"source": "ab", "target": "b"}])
    message = message.replace("2 tokens", "2 positions").replace("target 1", "target 1 tokens")
    row = {"features": np.zeros((2, 3)), "target": "b"}
    refuses(message, CODECS["features, fixed length"].encode, [row])


def test_features_are_read():
    codec = CODECS["features"]
    examples = codec.encode(LABELED)
    batch = examples.batch([1, 0])
    assert batch.source.values.tolist() == [[[1, 1, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]]]
    assert batch.source.mask.tolist() == [[True, False], [True, True]]
    assert batch.target.tolist() == [[1, 2, codec.target.pad], [0, 1, 2]]
    assert (codec.features, codec.factors) == (3, ())
    assert list(examples.texts) == ["ab", "b"]
    read = codec.read(["1 0 0", "0,1,0", "", "0\t0\t1"], "-")
    assert read.batch([0, 1]).source.values.tolist() == [
        [[1, 0, 0], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0]],
    ]
    assert read.lines == [["1 0 0", "0,1,0"], ["0\t0\t1"]]
    assert codec.source_text(batch.source.values[0]) is None
    assert codec.write([1, 0, 2, 1], ["x"]) == "ba"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"features": np.zeros((2, 4)), "target": "a"},
         "features has the shape [2, 4]; it must be [positions, 3], with at least one position"),
        ({"features": "x", "target": "a"}, "features is not an array of numbers"),
        ({"features": np.full((1, 3), np.nan), "target": "a"},
         "features has a number that is not finite"),
        ({"features": np.zeros((1, 3)), "target": ""}, "the target has no tokens to learn"),
    ],
)  # fmt: skip
def test_features_that_are_wrong_are_named(refuses, row, message):
    refuses(f"the data, row 0: {message}", CODECS["features"].encode, [row])


def test_targets_of_features_with_unseen_symbols():
    examples = CODECS["features"].encode([{"features": np.zeros((1, 3)), "target": "ax"}])
    assert examples.unseen == [
        "the data, row 0: the target has 'x', which the training data does not have; it has 'ab' "
        '(to read others as <unk>, set target_tokens to "characters+unk")'
    ]


def test_numbers_that_are_wrong_are_named(refuses):
    codec = CODECS["features"]
    refuses("-: nothing to read", codec.read, [], "-")
    refuses("-, line 2: 2 numbers; a position has 3", codec.read, ["1 2 3", "1 2"], "-")
    refuses("-, line 1: not all of it is numbers", codec.read, ["1 2 x"], "-")


def test_words_are_several_ids():
    codec = CODECS["factors"]
    assert codec.tags == ("B-LOC", "O")
    assert codec.entries[0] == ("köln", "ist", "da")
    examples = codec.encode(TAGGED)
    batch = examples.batch([0, 1])
    assert batch.source.values[0].tolist() == [[2, 2, 2, 2], [3, 3, 3, 3], [2, 2, 2, 2]]
    assert batch.source.values[1].tolist() == [[4, 4, 4, 2], [3, 3, 3, 3], [0, 0, 0, 0]]
    assert codec.source_text(batch.source.values[1, :2]) == "da ist"
    assert batch.target[0].tolist() == [0, 1, 0]
    assert codec.text([0, 1]) == "B-LOC O"
    read = codec.read(["Köln x", "neu x", "", "da y"], "-")
    assert read.batch([0]).source.values[0].tolist() == [[2, 2, 2, 2], [1, 1, 1, 3]]
    assert codec.write([0, 1], read.lines[0]) == "Köln x B-LOC\nneu x O\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens and 2 tags"),
        ({"tokens": [], "tags": []}, "tokens is []; it must be a list of words"),
        ({"tokens": "ab", "tags": ["O", "O"]}, "tokens is 'ab'; it must be a list of words"),
        ({"tokens": ["a", "b"], "tags": ["O", 3]}, "tags is ['O', 3]; it must be a list of text"),
    ],
)
def test_tagged_words_that_are_wrong_are_named(refuses, row, message):
    with pytest.raises(ValueError, match="the data, row 0") as caught:
        CODECS["factors"].encode([row])
    assert str(caught.value).removeprefix("the data, row 0")[2:] == message


def edited(tmp_path, codec, **changes):
    codec.save_pretrained(str(tmp_path))
    path = tmp_path / CODEC_FILE
    contents = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in contents.items() if v != "left out"}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"color": 1}, "unknown field 'color'; known are tags, entries, token_column"),
        ({"tags": "left out"}, "the field 'tags' is missing"),
        ({"kind": "left out"}, "the field 'kind' is missing"),
        ({"token_column": 1.5}, "the field 'token_column' is 1.5; it must be a whole number"),
        ({"token_column": True}, "the field 'token_column' is true; it must be a whole number"),
        ({"tags": "a"}, "the field 'tags' is \"a\"; it must be a list"),
        ({"entries": [["a"], "b"]}, "the field 'entries' is \"b\"; it must be a list"),
        ({"tags": ["a", "a"]}, "the symbol 'a' comes more than once in the vocabulary"),
        ({"kind": "fears"}, "unknown kind 'fears'; known are factors, features, media, text"),
    ],
)
def test_a_codec_that_is_wrong_is_named_with_its_field(refuses, tmp_path, changes, message):
    path = edited(tmp_path, CODECS["factors"], **changes)
    refuses(f"{path}: {message}", load_codec, str(tmp_path))


def test_a_codec_of_another_kind_is_refused(refuses, tmp_path):
    path = edited(tmp_path, CODECS["factors"])
    message = f"{path}: it is a codec of factors, not of text"
    refuses(message, TextCodec.from_pretrained, str(tmp_path))


def test_a_codec_that_is_missing_or_broken_is_named(refuses, tmp_path):
    path = tmp_path / CODEC_FILE
    refuses(f"{path}: there is no such file", load_codec, str(tmp_path))
    path.write_text('{"kind": "te')
    message = "not JSON (Unterminated string starting at: line 1 column 10 (char 9))"
    refuses(f"{path}: {message}", load_codec, str(tmp_path))
    path.write_text("[]")
    refuses(f"{path}: it must hold a JSON object", load_codec, str(tmp_path))


def test_a_run_of_an_older_version_is_refused(refuses, tmp_path):
    path = tmp_path / CODEC_FILE
    path.write_text('{"task": "old", "length": 10}')
    message = (
        f"{path}: it was written by an older version of freerun, whose models cannot be loaded "
        "anymore; train the model again"
    )
    refuses(message, load_codec, str(tmp_path))


def test_the_tokenizer_of_sources_must_be_there(refuses, tmp_path):
    text_codec("characters").save_pretrained(str(tmp_path))
    path = tmp_path / "source_tokenizer.json"
    path.unlink()
    refuses(f"{path}: there is no such file", load_codec, str(tmp_path))
    path.write_text("{}")
    with pytest.raises(ValueError, match=f"{path}: the tokenizer cannot be read"):
        load_codec(str(tmp_path))
