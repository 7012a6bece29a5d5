"""Tiny random Hugging Face models of many architectures, and policies and batches of them.

Nothing is downloaded: models are built from their configurations.
"""

from dataclasses import dataclass, field

import torch
import transformers
from torch import nn

from freerun.batch import Batch, Source
from freerun.models.huggingface import adapt
from freerun.vocabulary import Vocabulary

SPECIAL = ("<pad>", "<eos>", "<bos>")
LETTERS = "abcdefghij"
ROWS = 16
"""Of the embedding, 3 more than there are tokens: tables are often padded."""
PLACES = 16
"""Absolute positions, where a model has them."""


@dataclass(frozen=True)
class Architecture:
    """How a tiny model is made.

    Args:
        name: the stem of the names of its configuration and model in transformers.
        settings: of its configuration.
        causal: whether it is a decoder alone.
        exact: whether it computes in its own precision throughout; else parts are in float32.
        trees: whether it reads trees of prefixes.
        places: whether its positions are absolute and so limited.
    """

    name: str
    settings: dict = field(default_factory=dict)
    causal: bool = True
    exact: bool = False
    trees: bool = True
    places: bool = False

    @property
    def tolerance(self):
        """How far scores may lie from recomputation in float64."""
        return 1e-11 if self.exact else 2e-5


DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
ENCODER_DECODER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": PLACES,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
T5 = {
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
WINDOW = {"sliding_window": 3}

ARCHITECTURES = {
    "llama": Architecture("Llama", DECODER),
    "qwen2": Architecture("Qwen2", DECODER),
    "gpt2": Architecture(
        "GPT2",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": PLACES, "n_inner": 24}
        | {"pad_token_id": None, "eos_token_id": 1, "bos_token_id": 1},
        exact=True,
        places=True,
    ),
    "mistral": Architecture("Mistral", DECODER | WINDOW, trees=False),
    "gemma2": Architecture(
        "Gemma2",
        DECODER
        | WINDOW
        | {"query_pre_attn_scalar": 4, "attn_logit_softcapping": 3.0}
        | {"final_logit_softcapping": 8.0, "layer_types": ["sliding_attention", "full_attention"]},
        trees=False,
    ),
    "gemma3": Architecture(
        "Gemma3",
        DECODER
        | WINDOW
        | {"query_pre_attn_scalar": 4, "layer_types": ["sliding_attention", "full_attention"]},
        trees=False,
    ),
    "gpt_neox": Architecture(
        "GPTNeoX", {name: DECODER[name] for name in DECODER if name != "num_key_value_heads"}
    ),
    "opt": Architecture(
        "OPT",
        {"hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "ffn_dim": 24}
        | {"num_attention_heads": 4, "max_position_embeddings": PLACES}
        | {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2},
        places=True,
    ),
    "t5": Architecture("T5", T5, causal=False, trees=False),
    "bart": Architecture("Bart", ENCODER_DECODER, causal=False, exact=True, places=True),
    "mbart": Architecture(
        "MBart", ENCODER_DECODER | {"scale_embedding": True}, causal=False, exact=True, places=True
    ),
    "marian": Architecture("Marian", ENCODER_DECODER, causal=False, exact=True, places=True),
    "pegasus": Architecture("Pegasus", ENCODER_DECODER, causal=False, exact=True, places=True),
}
DROPOUTS = {
    "GPT2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "T5": ("dropout_rate",),
    "Gemma2": ("attention_dropout",),
    "Gemma3": ("attention_dropout",),
    "Llama": ("attention_dropout",),
    "Mistral": ("attention_dropout",),
    "Qwen2": ("attention_dropout",),
    "GPTNeoX": ("hidden_dropout", "attention_dropout"),
}
"""The settings of dropout, where they are not those of the family of BART."""


def class_of(architecture, suffix):
    """A class of transformers."""
    stem = architecture.name
    if suffix != "Config":
        suffix = "ForCausalLM" if architecture.causal else "ForConditionalGeneration"
        suffix = {"GPT2": "LMHeadModel", "Marian": "MTModel"}.get(stem, suffix)
    elif stem == "Gemma3":
        suffix = "TextConfig"
    return getattr(transformers, stem + suffix)


def tiny_model(
    name, *, attention="eager", dtype=torch.float64, seed=0, rows=ROWS, dropout=0.0, **settings
):
    """A model with random weights, so large that its choices differ; in evaluation mode."""
    architecture = ARCHITECTURES[name]
    dropouts = DROPOUTS.get(architecture.name, ("dropout", "attention_dropout"))
    settings = architecture.settings | dict.fromkeys(dropouts, dropout) | settings
    config = class_of(architecture, "Config")(vocab_size=rows, **settings)
    config._attn_implementation = attention
    model = class_of(architecture, "Model")(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        for parameter in model.parameters():
            # Vectors stay near what normalisation starts from.
            scale = 0.2 if parameter.dim() == 1 else 1.0 if parameter in tables else 0.4
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            kept = parameter if parameter.dim() == 1 else 0
            parameter.copy_(kept + scale * drawn)
        for module in model.modules():
            if hasattr(module, "create_weight"):  # the fixed positions of Marian and Pegasus
                module.weight.copy_(module.create_weight())
    return model


def words_of(name, *, shared=True, pad=0, letters=LETTERS):
    """The vocabulary: of a tokenizer that both sides share, or of a task's own letters."""
    if not shared:
        return Vocabulary.build(letters, eos=True)
    settings = ARCHITECTURES[name].settings
    start = settings.get("decoder_start_token_id", settings.get("bos_token_id"))
    return Vocabulary((*SPECIAL, *letters), bos=start, pad=pad, eos=1)


def tiny_adapted(name, *, shared=True, pad=0, letters=LETTERS, limit=6, **settings):
    """A tiny model as a policy. Sources that are not shared have one letter more."""
    words = words_of(name, shared=shared, pad=pad, letters=letters)
    if not shared:
        settings = {"rows": words.size + len(letters) + 1, **settings}
    return adapt(tiny_model(name, **settings), words, limit=limit, shared=shared)


def letters_of(policy):
    """The first letter among the actions, and the one after the last."""
    words = policy.vocabulary
    return (len(SPECIAL), words.actions) if policy.shared else (0, words.actions - 1)


def text_source(policy, lengths=(3, 1, 4, 2), *, seed=0):
    """Sources of `lengths`; their padding holds tokens that would matter if they were read."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    values = torch.randint(*letters_of(policy), shape, generator=generator)
    return Source(values, torch.arange(shape[1]) < torch.tensor(lengths)[:, None])


def text_batch(policy, lengths=(3, 1, 4, 2), targets=(2, 4, 1, 3), *, seed=0):
    """Examples whose targets have these lengths; the last token of each is eos."""
    words = policy.vocabulary
    generator = torch.Generator().manual_seed(seed + 1)
    counts = torch.tensor(targets)[:, None]
    shape = len(targets), max(targets)
    target = torch.randint(*letters_of(policy), shape, generator=generator)
    target[torch.arange(shape[1]) == counts - 1] = words.eos
    mask = torch.arange(shape[1]) < counts
    ids = torch.randperm(1000, generator=generator)[: shape[0]]
    source = text_source(policy, lengths, seed=seed)
    return Batch(ids, source, target.where(mask, words.pad), mask)


def plain_scores(policy, source, inputs):
    """The scores after every input of one row, by the model's own forward pass without padding.

    Written from what the two sides are fed: see `freerun.models.huggingface`.
    """
    model, words, shared = policy.model, policy.vocabulary, policy.shared
    values = source.values[:, : int(source.lengths[0])]
    values = values if shared else values + words.size
    if model.config.is_encoder_decoder:
        ones = torch.ones_like(values)
        found = model(input_ids=values, attention_mask=ones, decoder_input_ids=inputs)
        return found.logits[0, :, : words.actions]
    read = torch.cat([values, inputs[:, 1:] if shared else inputs], 1)
    found = model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0]
    return found[-inputs.shape[1] :, : words.actions]
