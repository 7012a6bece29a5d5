"""Tiny random encoder-decoders that read images and sounds, and policies and batches of them."""

import torch
from torch import nn
from transformers import (
    DonutSwinConfig,
    DonutSwinModel,
    GPT2Config,
    GPT2LMHeadModel,
    MBartConfig,
    MBartForCausalLM,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    Speech2TextConfig,
    Speech2TextForConditionalGeneration,
    TrOCRConfig,
    TrOCRForCausalLM,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from freerun.batch import Batch, Source
from freerun.models.huggingface import adapt
from freerun.models.huggingface.media import find_media_input
from freerun.vocabulary import Vocabulary

LETTERS = "abcd"
WORDS = Vocabulary(("<pad>", "<eos>", "<bos>", *LETTERS), bos=2, pad=0, eos=1)
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
ROWS = 9  # of the tables, 2 more than there are tokens
WIDE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2}
WIDE |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
WIDE |= {"dropout": 0.0, "vocab_size": ROWS, "max_target_positions": 16, **SPECIAL}


def vit():
    return ViTModel(
        ViTConfig(
            hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=(4, 8), patch_size=4, num_channels=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip


def swin():
    return DonutSwinModel(
        DonutSwinConfig(
            image_size=[8, 16], patch_size=2, num_channels=3, embed_dim=8, depths=[1, 1],
            num_heads=[2, 2], window_size=2, drop_path_rate=0.0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip


def with_vision(encoder, decoder):
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for name, value in SPECIAL.items():
        setattr(model.config, name, value)
    return model


def gpt2():
    config = GPT2Config(
        vocab_size=ROWS, n_positions=16, n_embd=16, n_layer=2, n_head=2, add_cross_attention=True,
        is_decoder=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def trocr():
    names = {name: WIDE[name] for name in WIDE if not name.startswith(("encoder", "max"))}
    config = TrOCRConfig(**names, max_position_embeddings=16, cross_attention_hidden_size=12)
    return TrOCRForCausalLM(config)


def mbart():
    # generate counts the layers of the encoder, which is not there.
    names = {name: WIDE[name] for name in WIDE if not name.startswith("max")}
    names["encoder_layers"] = WIDE["decoder_layers"]
    config = MBartConfig(
        **names,
        max_position_embeddings=16,
        is_decoder=True,
        add_cross_attention=True,
        forced_eos_token_id=None,
    )
    return MBartForCausalLM(config)


def whisper():
    return WhisperForConditionalGeneration(
        WhisperConfig(
            **WIDE, num_mel_bins=4, max_source_positions=6,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip


def speech2text():
    return Speech2TextForConditionalGeneration(
        Speech2TextConfig(
            **WIDE, input_feat_per_channel=4, input_channels=1, conv_channels=8,
            num_conv_layers=2, conv_kernel_sizes=(3, 3), max_source_positions=600,
        )
    )  # fmt: skip


def moonshine():
    return MoonshineForConditionalGeneration(
        MoonshineConfig(
            vocab_size=ROWS, hidden_size=16, intermediate_size=16, encoder_num_hidden_layers=1,
            decoder_num_hidden_layers=2, encoder_num_attention_heads=2,
            decoder_num_attention_heads=2, max_position_embeddings=32, **SPECIAL,
        )
    )  # fmt: skip


MODELS = {
    "vit-gpt2": lambda: with_vision(vit(), gpt2()),
    "vit-trocr": lambda: with_vision(vit(), trocr()),
    "donut": lambda: with_vision(swin(), mbart()),
    "whisper": whisper,
    "speech2text": speech2text,
    "moonshine": moonshine,
}


def tiny_media_model(name, *, attention="eager", dtype=torch.float64, seed=0):
    """A model with random weights, so large that its choices differ; in evaluation mode."""
    model = MODELS[name]().to(dtype).eval()
    model.set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        for parameter in model.parameters():
            scale = 0.2 if parameter.dim() == 1 else 1.0 if parameter in tables else 0.4
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((parameter if parameter.dim() == 1 else 0) + scale * drawn)
    return model


def tiny_media(name, *, limit=6, prefix=(), **settings):
    """A tiny model as a policy."""
    return adapt(tiny_media_model(name, **settings), WORDS, limit=limit, prefix=prefix)


def media_source(policy, *, sizes=(3000, 4500, 2400), seed=0):
    """Three images or sounds, whose lengths in steps are `sizes` where they may vary."""
    generator = torch.Generator().manual_seed(seed)
    first, *rest = find_media_input(policy.inner).shape
    sizes = torch.tensor(sizes if first is None else [first] * 3)
    if rest:
        sizes = sizes // 75 if first is None else sizes
    shape = 3, int(sizes.max()), *rest
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    mask = torch.arange(shape[1]) < sizes[:, None]
    return Source(values * mask.view(*mask.shape, *(1 for _ in rest)), mask)


def media_batch(policy, *, targets=(4, 1, 3), seed=0):
    """Three examples with targets of these lengths, eos included."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(targets)[:, None]
    cells = torch.arange(max(targets))
    target = torch.randint(3, 7, (3, max(targets)), generator=generator)
    target[cells == counts - 1] = WORDS.eos
    mask = cells < counts
    ids = torch.randperm(1000, generator=generator)[:3]
    return Batch(ids, media_source(policy, seed=seed), target.where(mask, WORDS.pad), mask)
