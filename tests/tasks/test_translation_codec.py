"""What a translator reads and writes."""

import json

import pytest
import torch

from freerun.data.parallel import Columns, Pair
from freerun.tasks import TranslationCodec, load_codec

PAIRS = [
    Pair("Tom kommt.", "Tom comes."),
    Pair("Tom kommt nicht!", "Tom doesn't come!"),
    Pair("Anna und Tom.", "Anna and Tom."),
]


def learn(tokens="words", sizes=(9, 9), lower=False, columns=(0, 1), tokenised=False):
    return TranslationCodec.learn(
        PAIRS,
        tokens=tokens,
        lower=lower,
        tokenised=tokenised,
        sizes=sizes,
        columns=Columns(*columns),
    )


def test_the_commonest_words_are_kept():
    codec = learn(sizes=(3, 2))
    assert codec.source.symbols == ("<unk>", "Tom", "kommt", "￭.")
    assert codec.target.symbols == ("<unk>", "Tom", "￭.", "<eos>")
    assert (codec.target.unknown, codec.target.eos) == (0, 3)
    assert codec.factors == (6,)
    # "Tom doesn 't come !" has five words.
    assert (codec.longest, codec.limit) == (5, 8)


def test_examples_hold_words_and_eos():
    codec = learn(sizes=(3, 2))
    examples = codec.examples(PAIRS[:2])
    batch = examples.batch([0, 1])
    assert batch.source.values.tolist() == [[1, 2, 3, 5], [1, 2, 0, 0]]
    assert batch.source.mask.tolist() == [[True] * 3 + [False], [True] * 4]
    assert batch.target.tolist() == [[1, 0, 2, 3, 5, 5], [1, 0, 0, 0, 0, 3]]
    assert torch.equal(batch.lengths, torch.tensor([4, 6]))
    assert list(examples.references) == [[1, 0, 2], [1, 0, 0, 0, 0]]
    assert examples.texts == ["Tom comes.", "Tom doesn't come!"]
    assert codec.write([1, 0, 2, 3, 1], []) == "Tom <unk>."
    assert codec.text([1, 0, 2], unknown="?") == "Tom ?."


def test_byte_pairs_know_everything():
    codec = learn("bpe", (260, 270))
    assert len(codec.source.symbols) == 260
    assert codec.target.unknown is codec.source.unknown is None
    assert codec.factors == (262,)
    examples = codec.examples([Pair("Grüße 🙂", "<unk> 🙂 <eos>")])
    (reference,) = examples.references
    assert codec.write([*reference, codec.target.eos], []) == "<unk> 🙂 <eos>"
    assert codec.target.eos not in reference
    longest = max(len(codec.target_pieces.split(target)) for _, target in PAIRS)
    assert codec.longest == longest


def test_all_may_be_lower_case():
    for tokens in ("words", "bpe"):
        codec = learn(tokens, (300, 300), lower=True)
        examples = codec.examples(PAIRS[:1])
        assert codec.write(examples.references[0], []) == "tom comes."
        assert examples.texts == ["Tom comes."]
        upper = codec.read(["TOM KOMMT."], "-").batch([0])
        assert torch.equal(upper.source.values, examples.batch([0]).source.values)


def test_words_between_spaces():
    codec = learn(tokenised=True)
    assert "comes." in codec.target.symbols
    examples = codec.examples([Pair("Tom <eos>", "Tom <eos>")])
    assert list(examples.references) == [[1, 0]]


@pytest.mark.parametrize("tokens", ["words", "bpe"])
def test_lines_to_translate(refuses, tokens):
    codec = learn(tokens, (300, 300))
    sources = codec.read(["Tom kommt.", "  Anna\t! "], "-")
    assert sources.lines == [["Tom kommt."], ["  Anna\t! "]]
    assert [len(row) for row in sources.references] == [0, 0]
    assert sources.batch([0, 1]).source.mask.any(1).all()
    refuses("-, line 2: there is nothing to translate", codec.read, ["a", " "], "-")
    refuses("-: nothing to read", codec.read, [], "-")


@pytest.mark.parametrize("columns", [Columns(1, 0), Columns("de", "en")])
def test_a_file_to_evaluate_on(write, refuses, columns):
    codec = learn(columns=columns)
    path = write("en\tde\nTom comes.\tTom kommt.\n")
    found = codec.evaluation(path)
    assert found.texts[-1] == "Tom comes."
    assert len(found) == (2 if columns == (1, 0) else 1)
    path = write("Tom comes.\n")
    number = "1 column between tabs; the source is in column 1, counted from 0"
    message = "no column 'de'; it has Tom comes." if columns != (1, 0) else number
    refuses(f"{path}, line 1: {message}", codec.evaluation, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": "letters"}, "tokens is 'letters'; it must be words or bpe"),
        ({"lower": 1}, "the field 'lower' is 1; it must be true or false"),
        ({"source_column": 1.5},
         "the field 'source_column' is 1.5; it must be a whole number or text"),
        ({"source_column": True},
         "the field 'source_column' is True; it must be a whole number or text"),
        ({"target_symbols": ["a", "a"]},
         "the symbol 'a' comes more than once in the vocabulary"),
        ({"source_symbols": ["<unk>"]},
         "the symbol '<unk>' comes more than once in the vocabulary"),
        ({"tokens": "bpe", "source_merges": ["x y"]},
         "the merge 'x y' is not of two symbols, and to a third"),
    ],
)  # fmt: skip
def test_a_codec_that_is_wrong_is_named(refuses, tmp_path, changes, message):
    learn().save_pretrained(str(tmp_path))
    path = tmp_path / "codec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refuses(f"{path}: {message}", load_codec, str(tmp_path))


def test_the_library_is_asked_for_when_a_codec_is_loaded(refuses, tmp_path, missing):
    learn("bpe", (300, 300)).save_pretrained(str(tmp_path))
    missing("tokenizers")
    message = "byte-pair encoding needs tokenizers, which is missing: "
    where = f"{tmp_path / 'codec.json'}: "
    refuses(f"{where}{message}pip install freerun[translation]", load_codec, str(tmp_path))
