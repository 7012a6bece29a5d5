"""Folders of images and sounds with their texts, and of tiny pretrained models that read them."""

import csv

import numpy as np
import soundfile
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    DonutImageProcessor,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from freerun.tasks import ImageToText, SpeechToText
from tests.models.media import tiny_media_model

TEXTS = ["ab", "b", "cab", "a", "bc", "abc", "c", "ac", "ba", "cc", "bb", "aa"]


def write_image(path, number):
    pixels = np.random.default_rng(number).integers(0, 255, (8, 16), np.uint8)
    Image.fromarray(pixels).save(path)


def write_sound(path, number):
    wave = 0.3 * np.sin(np.arange(4000) * (0.1 + number / 50))
    soundfile.write(path, wave, 8000)


def write_folder(folder, write, suffix, texts, column="text"):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i}{suffix}" for i in range(len(texts))]
    for i, name in enumerate(names):
        write(folder / name, i)
    with open(folder / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", column), *zip(names, texts, strict=True)])
    return folder


def image_task(data, **settings):
    return ImageToText(data=str(data), height=8, width=16, **settings)


def speech_task(data, **settings):
    return SpeechToText(data=str(data), seconds=1, mel_bins=8, **settings)


def save_whisper(folder):
    """Save a tiny Whisper, its tokenizer and its processor; return the folder."""
    vocabulary = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    names = ["startoftranscript", "en", "zh", "de", "translate", "transcribe", "startofprev"]
    names = [f"<|{name}|>" for name in (*names, "nocaptions", "notimestamps")]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    eos, start = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(names[0])
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8,
        num_mel_bins=8, max_source_positions=50, max_target_positions=32,
        decoder_start_token_id=start, bos_token_id=eos, eos_token_id=eos, pad_token_id=eos,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    extractor.save_pretrained(folder)
    return str(folder)


def save_donut(folder):
    """Save a tiny Donut whose decoder can be told the task <s_receipt>; return the folder."""
    tokens = ("<pad>", "</s>", "<s>", *"abcd", "<s_receipt>", "<unk>")
    plain = Tokenizer(WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    plain.pre_tokenizer = Split("", "isolated")
    plain.post_processor = TemplateProcessing(
        single="<s> $0 </s>", special_tokens=[("<s>", 2), ("</s>", 1)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, additional_special_tokens=["<s_receipt>"], **special
    )
    tiny_media_model("donut", dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    DonutImageProcessor(size={"height": 8, "width": 16}).save_pretrained(folder)
    return str(folder)
