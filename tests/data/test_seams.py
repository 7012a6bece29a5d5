"""A prompt and a completion are read as the one text that they are, by tokenizers of all kinds."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from freerun.data import TextCodec

TEXT = [
    f"Question: {i} + {i}? Answer: yes, it is {2 * i}. No.\n  Paris is\tfine, I'm sure; don't  go"
    for i in range(40)
]
SPECIAL = ["<unk>", "<s>", "</s>"]
SETTINGS = {"special_tokens": SPECIAL, "show_progress": False}
PAIRS = [("Answer: ", "Paris"), ("Ans", "wer: yes"), ("Answer: \n", "yes"), ("don", "'t go")]


def random_pairs():
    draw, text = random.Random(0), TEXT[12]
    cuts = [draw.randrange(1, len(text)) for _ in range(40)]
    pairs = [(text[max(0, cut - 9) : cut], text[cut : cut + 9]) for cut in cuts]
    return [pair for pair in pairs if all(side.strip() for side in pair)]


def metaspace(scheme, *, split=True, unigram=False):
    inner = Tokenizer(models.Unigram() if unigram else models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    if unigram:
        return inner, trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", **SETTINGS)
    return inner, trainers.BpeTrainer(vocab_size=250, **SETTINGS)


def llama():
    """Llama 2: the normalizer writes the space before a text, and decoding takes it away."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return inner, trainers.BpeTrainer(vocab_size=400, **SETTINGS)


def byte_level(*, prefix):
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return inner, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, **SETTINGS)


def word_piece():
    inner = Tokenizer(models.WordPiece(unk_token="<unk>"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(cleanup=False)
    return inner, trainers.WordPieceTrainer(vocab_size=250, **SETTINGS)


KINDS = {
    **{f"bpe, {scheme}": (metaspace, scheme) for scheme in ("always", "first", "never")},
    **{f"unsplit bpe, {scheme}": (metaspace, scheme, False) for scheme in ("first", "never")},
    **{f"unigram, {scheme}": (metaspace, scheme, True, True) for scheme in ("always", "never")},
    "llama": (llama,),
    "bytes": (byte_level, False),
    "bytes behind a space": (byte_level, True),
    "word pieces": (word_piece,),
}


def make(kind):
    function, *values = KINDS[kind]
    names = {metaspace: ("scheme", "split", "unigram"), byte_level: ("prefix",)}.get(function, ())
    settings = dict(zip(names, values, strict=False))
    scheme = [settings.pop("scheme")] if "scheme" in settings else []
    inner, trainer = function(*scheme, **settings)
    inner.train_from_iterator(TEXT, trainer)
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_read_as_its_text(kind):
    tokenizer = make(kind)
    codec, pairs = TextCodec(tokenizer), [*PAIRS, *random_pairs()]
    examples = codec.encode([{"prompt": one, "completion": other} for one, other in pairs])
    for i, (one, other) in enumerate(pairs):
        batch = examples.batch([i])
        head, rest = batch.source.values[0].tolist(), batch.target[0].tolist()
        assert head == tokenizer(one, add_special_tokens=False)["input_ids"]
        whole = tokenizer.decode(tokenizer(one + other, add_special_tokens=False)["input_ids"])
        assert rest.pop() == codec.target.eos
        # Some tokenizers change a text; then it is read as they read the whole.
        assert tokenizer.decode([*head, *rest]) in (one + other, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_a_special_token_stays_text(kind, refuses):
    codec = TextCodec(make(kind))
    row = {"prompt": "Answer: </s>", "completion": " yes <s> it"}
    if "unigram" in kind:
        message = "the text spells '</s>', a special token, which the tokenizer does not read as "
        with pytest.raises(ValueError, match=message):
            codec.encode([row])
        return
    examples = codec.encode([row])
    batch = examples.batch([0])
    special = {codec.tokenizer.bos_token_id, codec.tokenizer.eos_token_id}
    assert special.isdisjoint(batch.source.values[0].tolist())
    assert special.isdisjoint(batch.target[0, :-1].tolist())
    assert examples.notes == [
        "1 of 1 texts spell special tokens ('</s>'), which were read as plain text; messages and "
        "input_ids can hold the tokens themselves"
    ]
    message = (
        "the data, row 0: the completion ends in '</s>', which is text here; leave it out: eos is "
        "added behind each completion"
    )
    refuses(message, codec.encode, [{"prompt": "Answer:", "completion": " yes</s>"}])
