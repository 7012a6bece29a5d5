"""Tokenizers of a few tokens, built on the spot."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = [*"abc", "yes", "no", "user", "assistant", *":+1234567890"]
CHAT = (
    "{% for m in messages %}{{ '<s>' + m.role + ' : ' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant : ' }}{% endif %}"
)
"""Writes eos behind every message, and a line break behind that."""

TEXT = [f"Question: {i} + {i}? Answer: yes, it is {2 * i}. No.\n" for i in range(40)]


def framed(inner, *, bos, eos):
    """Put bos before every text and eos behind it, or one of them."""
    frame = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    ids = [(token, inner.token_to_id(token)) for token in ("<s>", "</s>")]
    inner.post_processor = processors.TemplateProcessing(single=frame, special_tokens=ids)


def word_tokenizer(*, bos=False, eos=False, **special):
    """Words between spaces: 0 pad, 1 bos, 2 eos, 3 unknown, then `WORDS`."""
    symbols = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos or eos:
        framed(inner, bos=bos, eos=eos)
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"} | special
    special = {name: token for name, token in special.items() if token}
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **special)


def piece_tokenizer(**special):
    """Pieces that begin with the space before a word, and bos, as Llama's; a text begins so too."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    symbols = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=symbols, show_progress=False)
    inner.train_from_iterator(TEXT, trainer)
    framed(inner, bos=True, eos=False)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def byte_tokenizer(*, bos=False, eos=False, size=300, **special):
    """Byte-pair tokens of any text; eos is also the padding, and the unknown, as GPT-2's is."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["</s>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT, trainer)
    if bos or eos:
        framed(inner, bos=bos, eos=eos)
    special = {"eos_token": "</s>", "unk_token": "</s>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)
