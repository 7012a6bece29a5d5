"""All that the recordings know of freerun: how policies, batches, methods and runs are made.

When something of freerun is renamed, this file follows and the recorded figures stay. Weights do
not come from torch's generator: each is a function of the name of its parameter and its index. A
parameter that is renamed keeps its weights by an entry in `RECORDED_AS`.
"""

import functools
import zlib

import numpy as np
import torch
import transformers

from freerun.batch import Batch, Source
from freerun.methods import METHODS, Clock
from freerun.models import RecurrentConfig, RecurrentPolicy, adapt
from freerun.models.settings import CausalSettings, RecurrentSettings, Seq2SeqSettings
from freerun.settings import build
from freerun.tasks import Arithmetic, Digits, Spelling
from freerun.training import TrainingSettings, fit
from freerun.vocabulary import Vocabulary

RECORDED_AS: dict[str, str] = {}
"""From the prefix of a parameter's name to the prefix under which it was recorded."""

LETTERS = "abcd"
TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")
SPECIAL = ("<pad>", "<eos>", "<bos>")
ROWS = 16
"""Rows of the embedding of a Hugging Face model, more than it has tokens."""

SOURCES = ("bad", "c", "dabc", "ab")
TARGETS = ("adbcadd.", "cbba", "babbacb.", ".")
"""The dot is eos. The second target is cut off before its eos."""
TAGGED = ((1, 2, 0), (0,), (1, 3, 4, 0), (3, 4))
IDS = (907, 3, 41, 12)
FEATURES = 3

RECURRENT = {
    "gru": {"cell": "gru", "attention": "additive", "bidirectional": True},
    "lstm": {"cell": "lstm", "attention": "general", "input_feeding": True, "layers": 2},
    "images": {"cell": "gru", "attention": "none"},
    "tagger": {"cell": "lstm", "attention": "aligned", "bidirectional": True},
}
DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "tie_word_embeddings": False,
}
GPT2 = {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 24,
    "n_positions": 24,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "pad_token_id": None,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
T5 = {
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 24,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
HUGGING_FACE = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, GPT2, 1),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, DECODER, 2),
    "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration, T5, 0),
    "bart": (transformers.BartConfig, transformers.BartForConditionalGeneration, BART, 2),
}
"""Configuration, model, settings and bos."""
SOURCES_APART = ("llama",)
"""The models whose sources are not written in the tokens of targets."""


@functools.cache
def policy(name):
    """A tiny policy in double precision; " and backspace" after its name adds this action."""
    name, _, backspace = name.partition(" and ")
    make = _recurrent if name in RECURRENT else _hugging_face
    return make(name, bool(backspace))


def _recurrent(name, backspace):
    if name == "tagger":
        words = Vocabulary(TAGS, bos=5, pad=6)
        inputs = {"factors": (5, 3)}
    else:
        symbols = (*LETTERS, "<eos>", *(["<backspace>"] if backspace else []))
        count = len(symbols)
        words = Vocabulary(
            symbols, bos=count, pad=count + 1, eos=4, backspace=5 if backspace else None
        )
        inputs = {"features": FEATURES} if name == "images" else {"factors": (5,)}
    config = RecurrentConfig.from_vocabulary(
        words,
        **inputs,
        limit=None if words.eos is None else 9,
        hidden_size=6,
        embedding_size=5,
        **RECURRENT[name],
    )
    return filled(RecurrentPolicy(config))


def _hugging_face(name, backspace):
    make_config, make_model, settings, bos = HUGGING_FACE[name]
    symbols = (*SPECIAL, *LETTERS, *(["<backspace>"] if backspace else []))
    words = Vocabulary(symbols, bos=bos, pad=0, eos=1, backspace=7 if backspace else None)
    config = make_config(vocab_size=ROWS, **settings)
    config._attn_implementation = "eager"
    # The scores of a model with a cache are compared with recomputation: its weights come first.
    model = filled(make_model(config), scale=0.5)
    return adapt(model, words, limit=9, shared=name not in SOURCES_APART)


def filled(module, scale=1.0):
    """The module in double precision and evaluation mode, with weights that follow from names.

    Those of matrices are in [-scale, scale).
    """
    module = module.double().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.from_numpy(numbers(recorded_name(name), parameter.numel()))
            values = values.reshape(parameter.shape)
            if parameter.dim() > 1:
                parameter.copy_(scale * values)
            else:
                # Gains of norms stay near 1, and biases near 0.
                gain = "norm" in name or ".ln_" in name
                parameter.copy_(0.4 * values + (1.0 if gain and name.endswith("weight") else 0.0))
    return module


def numbers(name, count):
    """Numbers in [-1, 1) that follow from a name: splitmix64 of its checksum and their index."""
    bits = np.arange(count, dtype=np.uint64) + (np.uint64(zlib.crc32(name.encode())) << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(12)).astype(np.float64) * 2.0**-51 - 1


def recorded_name(name):
    """The name under which a parameter was recorded, without what a policy puts before it."""
    name = name.removeprefix("model.")
    for prefix, recorded in RECORDED_AS.items():
        if name.startswith(prefix):
            return recorded + name.removeprefix(prefix)
    return name


def batch(policy):
    """Four examples for a policy; what stands in their padding would matter if it were read."""
    words = policy.vocabulary
    config = policy.config
    first = 0 if isinstance(policy, RecurrentPolicy) or not policy.shared else len(SPECIAL)
    if words.eos is None:
        rows = TAGGED
        pairs = [[(LETTERS.index(c), i % 3) for i, c in enumerate(text)] for text in SOURCES]
        source = Source(*_rectangle(pairs, (4, 2)))
    else:
        first_written = words.symbols.index("a")
        rows = [[words.eos if c == "." else first_written + LETTERS.index(c) for c in text]
                for text in TARGETS]  # fmt: skip
        read = [[first + LETTERS.index(c) for c in text] for text in SOURCES]
        source = Source(*_rectangle(read, first + 1))
        if getattr(config, "features", None):
            shape = (*source.mask.shape, FEATURES)
            values = numbers("source", int(np.prod(shape))).reshape(shape)
            source = Source(torch.from_numpy(values), source.mask)
    return Batch(torch.tensor(IDS), source, *_rectangle(rows, words.pad))


def _rectangle(rows, padding):
    """Rows of unequal lengths as a tensor, and where it is not padding."""
    width = max(map(len, rows))
    values = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
    return values, torch.tensor([[cell < len(row) for cell in range(width)] for row in rows])


def losses(name, settings, policy, batch, clocks):
    """What a method computes at each of these updates, between which weights do not change."""
    method = build(METHODS[name], settings, name)
    for step, total in clocks:
        clock = Clock(step=step, total=total, seed=5)
        outcome = method.loss(policy, batch, clock)
        yield outcome.total, outcome.count, outcome.metrics
        method.after_update(policy, clock)


TASKS = {"digits": Digits, "spelling": Spelling, "arithmetic": Arithmetic}
MODELS = {"recurrent": RecurrentSettings, "causal": CausalSettings, "seq2seq": Seq2SeqSettings}


def run(task, task_settings, name, settings, model, model_settings, updates, output):
    """A short run: the loss of each update, and the metrics of the last model on dev."""
    task = TASKS[task](**task_settings)
    kind = MODELS[model](**model_settings)
    training = TrainingSettings(
        updates=updates,
        batch_size=8,
        learning_rate=0.01,
        evaluate_every=1,
        keep="last",
        seed=3,
        threads=1,
    )
    found = fit(
        task,
        kind.load(task),
        build(METHODS[name], settings, name),
        model=kind,
        training=training,
        output=output,
        quiet=True,
    )
    return [point["loss"] for point in found.curve], found.dev
