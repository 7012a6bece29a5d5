"""Metrics of outputs in the tokens of every kind of codec, by hand."""

import numpy as np
import pytest

from freerun.data import FactorCodec, FeatureCodec, TextCodec, Tokens
from freerun.data.base import Data
from freerun.metrics import (
    Metric,
    check_metrics,
    find_metrics,
    find_position_errors,
    list_signatures,
    score,
    score_majority_guess,
    try_metrics,
)
from freerun.metrics.scoring import find_most_common_token, make_constant_guesses
from freerun.settings import SettingError
from tests.helpers import raises

COLORS = [{"source": "rot", "target": "red one"}, {"source": "rot", "target": "red  two"}]


def text_codec(tokens="words", rows=COLORS, **options):
    options = {"source_tokens": "characters", **options}
    return TextCodec.learn(rows * 2, rows, target_tokens=tokens, **options)


def tags_codec():
    rows = [
        {"tokens": ["Bonn", "is"], "tags": ["B-LOC", "O"]},
        {"tokens": ["is"], "tags": ["I-LOC"]},
    ]
    codec = FactorCodec.learn(rows)
    return codec, codec.encode(rows)


def letters_codec(fixed):
    rows = [{"features": np.zeros((2, 3)), "target": text} for text in ("ab", "ba", "aa")]
    codec = FeatureCodec.learn(rows, rows, target_tokens="characters", fixed_length=fixed)
    return codec, codec.encode(rows)


def test_texts_are_compared_as_the_tokenizer_keeps_them():
    codec = text_codec()
    examples = codec.encode(COLORS)
    metrics = find_metrics(["exact_match", "character_error"])
    assert score(metrics, codec, examples.references, examples) == {
        "exact_match": 1.0,  # though "red  two" has two spaces
        "character_error": 0.0,
    }
    assert score(metrics, codec, [[], list(examples.references[1])], examples) == {
        "exact_match": 0.5,
        "character_error": 7 / 14,
    }


def test_characters_keep_white_space():
    rows = [{"source": "x", "target": " ab"}, {"source": "x", "target": "ab "}]
    codec = text_codec("characters", rows)
    examples = codec.encode(rows)
    swapped = [examples.references[1], examples.references[0]]
    metrics = find_metrics(["exact_match", "character_error"])
    assert score(metrics, codec, swapped, examples) == {
        "exact_match": 0.0,
        "character_error": 4 / 6,
    }


def test_unknown_tokens_never_match():
    codec = text_codec()
    examples = codec.encode([{"source": "rot", "target": "red blue"}])
    unknown = codec.target.unknown
    assert examples.references[0][1] == unknown
    metrics = find_metrics(["exact_match", "token_error", "character_error", "bleu"])
    found = score(metrics, codec, examples.references, examples)
    assert found["exact_match"] == 0
    assert found["token_error"] == 1 / 2
    assert found["character_error"] == 5 / 8  # "red <unk>" to "red blue"
    metrics = find_metrics(["exact_match"])
    assert find_position_errors(metrics, codec, examples.references, examples) == [[False, True]]


@pytest.mark.parametrize("text", ["red <unk>", "red \ue000", "<unk> <unk>"])
def test_an_unknown_token_matches_no_reference_whatever_it_holds(text):
    codec = text_codec()
    examples = codec.encode([{"source": "rot", "target": text}])
    metrics = find_metrics(["exact_match", "character_error", "bleu", "chrf"])
    found = score(metrics, codec, [[codec.target.ids["red"], codec.target.unknown]], examples)
    assert found["exact_match"] == 0
    errors = {"red <unk>": 5 / 9, "red \ue000": 5 / 5, "<unk> <unk>": 10 / 11}
    assert found["character_error"] == errors[text]
    assert found["bleu"] < 50


def test_tags_are_compared_as_tags():
    codec, examples = tags_codec()
    tags = codec.target.ids
    metrics = find_metrics(["chunk_f1", "accuracy", "hamming_error", "exact_match"])
    right = score(metrics, codec, examples.references, examples)
    assert right == {"chunk_f1": 1, "accuracy": 1, "hamming_error": 0, "exact_match": 1}
    wrong = score(metrics, codec, [[tags["O"], tags["O"]], [tags["B-LOC"]]], examples)
    # An I- tag that continues nothing begins a chunk: one of two found, none wrong.
    assert wrong["chunk_f1"] == pytest.approx(2 / 3)
    assert wrong["accuracy"] == pytest.approx(1 / 3)
    assert find_position_errors(metrics, codec, [[1, 2], [0]], examples) == [
        [tags["B-LOC"] != 1, tags["O"] != 2],
        [tags["I-LOC"] != 0],
    ]


def test_letters_of_images_are_text_too():
    codec, examples = letters_codec(fixed=True)
    ids = codec.target.ids
    outputs = [[ids["a"], ids["b"]]] * 3
    metrics = find_metrics(["hamming_error", "exact_match", "character_error"])
    found = score(metrics, codec, outputs, examples)
    assert found == {"hamming_error": 3 / 6, "exact_match": 1 / 3, "character_error": 3 / 6}


def running_text():
    rows = [{"text": "one two three four five six"}, {"text": "two two two two two two"}]
    codec = TextCodec.learn(
        rows * 2, rows, target_tokens="words", source_tokens=None, block=4, context=1
    )
    return codec, codec.encode([{**row, "blocks": 1} for row in rows])


def test_metrics_of_a_corpus_look_at_outputs_up_to_where_targets_are_cut_off():
    codec, examples = running_text()
    endless = [[*row, *row, *row] for row in examples.references]
    metrics = find_metrics(["ms_jaccard", "repetition:n=1"])
    found = score(metrics, codec, endless, examples)
    assert found["ms_jaccard"] == pytest.approx(1)
    assert found["repetition"] == pytest.approx((0 + 3 / 4) / 2)
    assert find_position_errors(metrics, codec, [[], endless[1]], examples)[1] == [False] * 4


def test_passages_begin_with_their_source():
    codec, examples = running_text()
    seen = []
    look = Metric("look", lambda outputs, references: seen.append((outputs, references)) or 0.0,
                  form="passages")  # fmt: skip
    score({"look": look}, codec, [[], *examples.references[1:]], examples)
    ((outputs, references),) = seen
    assert outputs[0] == "one"
    assert references[0] == "one two three four five"
    assert outputs[1] == references[1]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["hamming_error"], "metric 'hamming_error': it needs outputs that are as long as their "
         "sources"),
        (["chunk_f1"], "metric 'chunk_f1': it needs outputs that are tags O, B-TYPE and I-TYPE"),
        (["exact_match", "mauve:model=x"], "metric 'mauve': it needs outputs that continue their "
         "sources, in the same tokens"),
        (["entropy"], "the first metric, entropy, has no better direction; put another metric "
                      "first"),
    ],
)  # fmt: skip
def test_metrics_that_outputs_do_not_allow_are_refused(specs, message):
    with raises(SettingError, message):
        check_metrics(find_metrics(specs), text_codec())


def test_metrics_that_outputs_allow_are_not_refused():
    check_metrics(find_metrics(["bleu", "token_error", "ms_jaccard", "entropy"]), text_codec())
    check_metrics(find_metrics(["chunk_f1", "hamming_error", "token_error"]), tags_codec()[0])
    passages = Metric("passages", lambda outputs, references: 0.0, form="passages")
    check_metrics(find_metrics(["ms_jaccard", passages]), running_text()[0])


def test_metrics_are_tried_on_a_few_references():
    codec = text_codec()
    examples = codec.encode(COLORS * 5)
    seen = []
    tried = Metric("tried", lambda outputs, references: seen.append((outputs, references)) or 0.0)
    try_metrics({"tried": tried}, codec, examples)
    ((outputs, references),) = seen
    assert outputs == references == ["red one", "red two"] * 2


def test_only_what_needs_a_signature_has_one():
    codec = text_codec()
    metrics = find_metrics(["exact_match", "bleu:tokenize=none", "chrf"])
    found = list_signatures(metrics, codec, codec.encode(COLORS))
    assert list(found) == ["bleu", "chrf"]
    assert "|tok:none|" in found["bleu"]


def test_the_most_common_token_and_the_smaller_of_two():
    assert find_most_common_token([[3, 1], [2, 3]]) == 3
    assert find_most_common_token([[2], [1]]) == 1


def letters(*words):
    return [[ord(letter) for letter in word] for word in words]


def test_constant_guesses_are_of_every_position_and_of_whole_targets():
    assert make_constant_guesses(letters("ab", "ab", "cb", "cd", "ce")) == letters("cb", "ab")


def test_a_constant_guess_is_as_long_as_the_median():
    train = letters("a", "aa", "aab", "aabbb", "aacccccc")
    assert make_constant_guesses(train)[0] == letters("aab")[0]


@pytest.mark.parametrize("better", ["ab", "cb"])
def test_the_better_constant_guess_on_dev_is_scored_on_test(better):
    targets = {"train": ["ab", "ab", "cb", "cd", "ce"], "dev": [better], "test": ["ab", "abc"]}
    rows = {k: [{"source": "x", "target": t} for t in part] for k, part in targets.items()}
    codec = text_codec("characters", rows["train"])
    data = Data(*(codec.encode(rows[name]) for name in targets), codec)
    right = better == "ab"
    expected = {"character_error": (1 if right else 3) / 5, "exact_match": right / 2}
    assert score_majority_guess(find_metrics(["character_error", "exact_match"]), data) == expected


def test_the_majority_guess_of_cells_is_the_most_common_token():
    codec, examples = letters_codec(fixed=True)  # ab, ba, aa
    data = Data(examples, examples, examples, codec)
    assert score_majority_guess(find_metrics(["hamming_error"]), data) == {"hamming_error": 2 / 6}


def test_the_majority_guess_of_running_text_is_other_text():
    codec, examples = running_text()
    data = Data(examples, examples, examples, codec)
    found = score_majority_guess(find_metrics(["ms_jaccard"]), data)
    assert found == {"ms_jaccard": pytest.approx(1)}


def test_an_alphabet_gives_its_order():
    codec = text_codec(Tokens("characters", alphabet="redonwt "))
    assert codec.target.symbols[:3] == ("r", "e", "d")
