"""Tokenizers that are learned from texts: what they cut, and that texts come back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freerun.data import DataError, TextCodec, Tokens
from freerun.data.parallel import count_words
from freerun.data.tokens import JOINER, decode_tokens, make_splitter
from freerun.vocabulary import UNKNOWN
from tests.helpers import raises

TEXTS = ["low lower lowest", "new newer newest", "wide wider widest", "“Grüße!” 🙂"] * 3
CONTROLS = set("\x1c\x1d\x1e\x1f")
"""White space for Python, but not for the library `tokenizers`."""
SOME = st.text(st.sampled_from("aB1_é'’-.,(\"  \t\u00a0ß🙂")) | st.text()


def build(kind, *texts, **options):
    return Tokens.parse(kind).build(texts, **options)


def cut(tokenizer, text):
    return list(make_splitter(tokenizer.backend_tokenizer)(text))


def come_back(tokenizer, text):
    return decode_tokens(tokenizer, tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't!", "Don ￭'t ￭!"),
        ("a state-of-the-art (3.5 €)", "a state-of-the-art (￭ 3 ￭.￭ 5 € ￭)"),
        ('He said: "So -"', 'He said ￭: "￭ So - ￭"'),
        ("Toms’ l'été, A_1", "Toms ￭’ l ￭'été ￭, A_1"),
        ("  ", ""),
    ],
)
def test_words_by_hand(text, words):
    tokenizer = build("words", text, text)
    assert cut(tokenizer, text) == words.split()
    assert count_words(text) == len(words.split())
    assert come_back(tokenizer, text) == text.strip()


@settings(deadline=None)
@given(SOME)
def test_words_come_back(text):
    tokenizer = build("words", text, text)
    if not {JOINER, "\ue000", "\ufffd"} & set(text) and text.isprintable():
        assert come_back(tokenizer, text) == " ".join(text.split())


@settings(deadline=None)
@given(SOME)
def test_symbols_come_back(text):
    tokenizer = build("symbols+unk", text, text)
    symbols = cut(tokenizer, text)
    assert symbols == text.split()
    if not {"<eos>", UNKNOWN} & set(symbols) and not CONTROLS & set(text):
        assert come_back(tokenizer, text) == " ".join(symbols)


@settings(deadline=None)
@given(SOME)
def test_characters_and_bytes_come_back_as_they_stand(text):
    for kind in ("characters", "bytes"):
        assert come_back(build(kind, text), text) == text


def test_what_is_reserved_is_unknown():
    tokenizer = build("symbols+unk", *["a <eos> <unk> b"] * 2)
    symbols = tokenizer.convert_ids_to_tokens(tokenizer("a <eos> <unk> b")["input_ids"])
    assert symbols == ["a", "<unk>", "<unk>", "b"]


def test_what_is_reserved_is_unseen_where_tokens_are_closed():
    tokenizer = Tokens.parse("symbols").build(["a b"], ["a <eos> <unk> c"])
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == ["a", "b", "c", "<eos>"]
    rows = [{"source": "x", "target": text} for text in ("a b", "a <eos> b")]
    codec = TextCodec.learn(rows[:1], rows, target_tokens="symbols", source_tokens="characters")
    found = codec.encode(rows)
    assert [list(row) for row in found.references] == [[0, 1], [0, codec.target.pad, 1]]
    assert found.texts == ["a b", "a <eos> b"]
    (message,) = found.unseen
    assert "<eos>" in message


def test_the_most_frequent_words_are_known():
    tokenizer = build("words:3", "Tom kommt.", "Tom kommt nicht!", "Anna und Tom.")
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["<unk>", "Tom", "kommt", "￭.", "<eos>"]
    assert tokenizer("Tom kommt!")["input_ids"] == [1, 2, 0]
    assert decode_tokens(tokenizer, [1, 0, 3], unknown="?") == "Tom ?."


def test_all_may_be_lower_case():
    for tokens in (Tokens("words", 300, lower=True), Tokens("bpe", 300, lower=True)):
        tokenizer = tokens.build(["Tom comes."])
        assert come_back(tokenizer, "TOM comes.").strip() == "tom comes."


# Byte-pair tokens


def symbols_of(tokenizer):
    return tokenizer.convert_ids_to_tokens(range(len(tokenizer)))


def test_frequent_pairs_are_merged():
    tokenizer = build("bpe:258", *["aa ab ab"] * 2)
    assert symbols_of(tokenizer)[256:] == ["Ġa", "Ġab", "<eos>"]
    assert tokenizer.tokenize("ab aa") == ["Ġab", "Ġa", "a"]


def test_what_comes_once_is_not_merged():
    assert len(build("bpe:1000", "abc")) == 256 + 1


def test_it_is_learned_alike_every_time():
    one, other = build("bpe:280", *TEXTS), build("bpe:280", *TEXTS)
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()


def test_no_symbol_is_eos():
    tokenizer = build("bpe:400", *["<eos> <eos> <unk>"] * 9)
    assert not {"<eos>", "<unk>"} & set(symbols_of(tokenizer)[:-1])
    assert tokenizer.eos_token_id not in tokenizer("<eos>")["input_ids"]


PAIRS = build("bpe:280", *TEXTS)


@settings(deadline=None)
@given(text=SOME)
def test_any_text_comes_back(text):
    assert " ".join(come_back(PAIRS, text).split()) == " ".join(text.split())


def test_broken_bytes_are_shown():
    assert decode_tokens(PAIRS, PAIRS("ü")["input_ids"][:2]).strip() == "\ufffd"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी भाषा है।", ["हिन्दी", "भाषा", "है", f"{JOINER}।"]),
        ("cafe\u0301!", ["cafe\u0301", f"{JOINER}!"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("שָׁלוֹם நன்றி", ["שָׁלוֹם", "நன்றி"]),
        ("❤\ufe0f ok", ["❤\ufe0f", "ok"]),
        ("👩\u200d👩\u200d👧 hi", ["👩\u200d👩\u200d👧", "hi"]),
        ("👍🏽!", ["👍🏽", f"{JOINER}!"]),
        ("🇩🇪🇫🇷", ["🇩🇪", f"{JOINER}🇫🇷"]),
        ("co\u00adoperate", ["co\u00adoperate"]),
    ],
)
def test_marks_belong_to_the_word_that_they_combine_with(text, words):
    tokenizer = Tokens.parse("words").build([text, text])
    assert list(make_splitter(tokenizer.backend_tokenizer)(text)) == words
    assert count_words(text) == len(words)
    assert decode_tokens(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize(
    ("spec", "text", "pieces"),
    [
        ("characters", "e\u0301é", ["e", "\u0301", "é"]),
        ("characters+nfc", "e\u0301é", ["é", "é"]),
        ("graphemes", "e\u0301é हि👨\u200d👩", ["e\u0301", "é", " ", "हि", "👨\u200d👩"]),
        ("graphemes+nfc", "e\u0301é", ["é", "é"]),
        ("characters+nfkc", "ﬁ²", ["f", "i", "2"]),
        ("characters+nfd", "é각", ["e", "\u0301", *"\u1100\u1161\u11a8"]),
        ("characters+nfkd", "ﬁé", ["f", "i", "e", "\u0301"]),
        ("words+unk+nfc", "e\u0301", ["é"]),
    ],
)
def test_characters_are_code_points_unless_another_unit_or_form_is_set(spec, text, pieces):
    tokenizer = Tokens.parse(spec).build([text, text])
    assert list(make_splitter(tokenizer.backend_tokenizer)(text)) == pieces
    rows = [{"source": text, "target": text}] * 2
    codec = TextCodec.learn(rows, rows, target_tokens=spec, source_tokens=spec)
    (found, _) = codec.encode(rows).references
    assert len(found) == len(pieces)
    assert codec.normalize(codec.decode(found)) == codec.normalize(text)


@pytest.mark.parametrize("spec", ["words+nfx", "characters+nfc+nfkc", "bpe+upper:300"])
def test_options_of_tokens_that_are_unknown(spec):
    with pytest.raises(ValueError, match=r"must be one of \+unk, \+nfc, \+nfd, \+nfkc, \+nfkd"):
        Tokens.parse(spec)


@pytest.mark.parametrize("path", ["gone/tokenizer", "./gone", "gone.json"])
def test_a_path_is_read_when_tokens_are_built(path, here):
    tokens = Tokens.parse(path)
    assert tokens == Tokens("path", path=path)
    with raises(DataError, f"{path}: there is no such file"):
        tokens.build(["a"])


@pytest.mark.parametrize(
    ("spec", "nearest"), [("gone", ""), ("wrods:9", "; did you mean 'words'?"), ("9:words", "")]
)
def test_kinds_of_tokens_that_are_unknown(spec, nearest, here):
    message = (
        f"unknown tokens {spec!r}{nearest}; they are one of characters, graphemes, symbols, words, "
        "bpe, bytes, or the path of a tokenizer"
    )
    with raises(ValueError, message):
        Tokens.parse(spec)
