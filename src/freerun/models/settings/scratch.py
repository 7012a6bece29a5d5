"""The settings of models that are trained from scratch: recurrent ones and Transformers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from freerun.data import Codec, MediaCodec
from freerun.data.media import Processor
from freerun.models.backspace import with_backspace
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.models.recurrent import RecurrentConfig, RecurrentPolicy
from freerun.models.recurrent.config import MAX_LAYERS
from freerun.models.settings.base import ModelSettings
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class RecurrentSettings(ModelSettings):
    """The settings of a recurrent encoder-decoder.

    Args:
        cell: `gru` or `lstm`.
        hidden_size: the width of the recurrent states of encoder (each direction) and decoder.
        embedding_size: the width of the embeddings of tokens, of the source and the target.
        layers: recurrent layers, of the encoder and of the decoder.
        bidirectional: whether the encoder is bidirectional.
        attention: how the decoder attends to the source: `none` (only through its initial state),
            `general` (Luong et al. 2015), `additive` (Bahdanau et al. 2015), or `aligned` (cell t
            reads position t; for targets as long as their source).
        input_feeding: whether the decoder also reads its previous attentional output (Luong et al.
            2015).
        dropout: dropout probability of embeddings, states between layers, and outputs, in [0, 1).

    Raises:
        ValueError: if a setting is out of range, or settings contradict each other.
    """

    kind: ClassVar[str] = "recurrent"

    cell: Literal["gru", "lstm"] = "gru"
    hidden_size: int = 128
    embedding_size: int = 128
    layers: int = 1
    bidirectional: bool = False
    attention: Literal["none", "general", "additive", "aligned"] = "none"
    input_feeding: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings as the policy's own configuration does, for some task."""
        RecurrentConfig.from_vocabulary(
            Vocabulary.build("a", eos=False), factors=(1,), **asdict(self)
        )

    @property
    def reads_rows_at_once(self) -> bool:
        """It reads a row cell by cell."""
        return False

    @classmethod
    def from_config(cls, config: RecurrentConfig) -> RecurrentSettings:
        """Return the settings that a policy was built with."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    def build(self, codec: Codec) -> RecurrentPolicy:
        """Build a policy for a codec, with weights from torch's global random generator.

        The rows of a backspace are not drawn (see `with_backspace`), so the other weights do not
        depend on whether there is one.

        Raises:
            ValueError: if a setting is incompatible with the task.
        """
        if isinstance(codec, MediaCodec):
            raise ValueError(
                f"a recurrent model reads no {codec.media}; seq2seq models can (--model seq2seq)"
            )
        config = RecurrentConfig.from_vocabulary(
            codec.target.without_backspace(),
            features=codec.features,
            factors=codec.factors,
            limit=codec.limit,
            **asdict(self),
        )
        policy = RecurrentPolicy(config)
        return policy if codec.target.backspace is None else with_backspace(policy, codec)


POSITIONS, FEWEST = 512, 16
"""The default and the minimum number of positions."""

INIT_STD = 0.05
"""The standard deviation of initial weights; BART's own, 0.02, is for models 8 times as wide."""


@dataclass(frozen=True, kw_only=True)
class ScratchSettings(ModelSettings):
    """The settings that both kinds of Transformers have in common.

    Args:
        hidden_size: the width of embeddings and hidden states.
        layers: the number of layers; in an encoder-decoder, of each of the two.
        heads: the number of attention heads, which must divide `hidden_size`.
        feed_forward: the width of the inner layer of a feed-forward block; by default four times
            `hidden_size`.
        dropout: dropout probability of embeddings, attention and outputs of blocks, in [0, 1).
        positions: the maximum number of tokens of a source and of its target, for a causal model of
            both together; by default 512, or twice the longest output of the task if that is more.

    Raises:
        ValueError: if a setting is out of range, or `heads` does not divide `hidden_size`.
    """

    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int | None = None
    dropout: float = 0.0
    positions: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("hidden_size", "layers", "heads", "feed_forward"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.layers > MAX_LAYERS:
            raise ValueError(f"layers is {self.layers}; it must be at most {MAX_LAYERS}")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; it must be a multiple of heads, {self.heads}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.positions is not None and self.positions < FEWEST:
            raise ValueError(f"positions is {self.positions}; it must be at least {FEWEST}")

    def build(self, codec: Codec) -> HuggingFacePolicy:
        """Build a policy for a codec, with weights from torch's global random generator.

        Sources that do not use the tokens of targets have separate embeddings. The rows of a
        backspace are not drawn (see `with_backspace`), so the other weights do not depend on
        whether there is one.

        Raises:
            ValueError: if sources are not one token per position, or outputs have no eos.
        """
        limit = check_text(codec, self.kind)
        target, read = codec.target.without_backspace(), 0 if codec.shared else codec.factors[0]
        if isinstance(codec, MediaCodec):
            model = self._media_model(codec.processor, target, limit)
        else:
            model = self._model(target, target.size + read, limit)
        policy = adapt(model, target, limit=limit, shared=codec.shared)
        return policy if codec.target.backspace is None else with_backspace(policy, codec)

    @property
    def inner(self) -> int:
        """The width of the inner layer of a feed-forward block."""
        return self.feed_forward or 4 * self.hidden_size

    def count_positions(self, limit: int) -> int:
        """Return the number of positions for outputs of at most `limit` tokens."""
        return self.positions or max(POSITIONS, 2 * limit)

    def _gpt2_config(self, target: Vocabulary, rows: int, limit: int, **options: Any) -> GPT2Config:
        """Return the configuration of a decoder with the architecture of GPT-2."""
        return GPT2Config(
            vocab_size=rows,
            n_positions=self.count_positions(limit),
            n_embd=self.hidden_size,
            n_layer=self.layers,
            n_head=self.heads,
            n_inner=self.inner,
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            **_special(target),
            **options,
        )

    def _media_model(self, processor: Processor, target: Vocabulary, limit: int) -> PreTrainedModel:
        """Build the model, which reads what a processor makes."""
        raise ValueError(
            f"a {self.kind} model reads no {processor.media}; seq2seq models can (--model seq2seq)"
        )

    @abstractmethod
    def _model(self, target: Vocabulary, rows: int, limit: int) -> PreTrainedModel:
        """Build the model, which writes `target` and has embeddings for `rows` tokens."""


@dataclass(frozen=True, kw_only=True)
class CausalSettings(ScratchSettings):
    """The settings of a causal decoder with the architecture of GPT-2 (Radford et al. 2019).

    With the defaults, it has about a million parameters.

    Raises:
        ValueError: if a setting is out of range, or `heads` does not divide `hidden_size`.
    """

    kind: ClassVar[str] = "causal"

    def _model(self, target: Vocabulary, rows: int, limit: int) -> GPT2LMHeadModel:
        return GPT2LMHeadModel(self._gpt2_config(target, rows, limit))


@dataclass(frozen=True, kw_only=True)
class Seq2SeqSettings(ScratchSettings):
    """The settings of an encoder-decoder with the architecture of BART (Lewis et al. 2020).

    For images it has an encoder of ViT (Dosovitskiy et al. 2021) and a decoder of GPT-2, as a
    VisionEncoderDecoderModel; for sounds the architecture of Whisper (Radford et al. 2023).

    Args:
        patch_size: the width and height of the squares of an image that its encoder reads as one
            position; by default the largest of 16, 8, 4, 2 and 1 that divides height and width of
            the image with at least 32 squares.

    Raises:
        ValueError: if a setting is out of range, or `heads` does not divide `hidden_size`.
    """

    kind: ClassVar[str] = "seq2seq"

    patch_size: int | None = None

    def build(self, codec: Codec) -> HuggingFacePolicy:
        """Build a policy for a codec (see `ScratchSettings.build`).

        Raises:
            ValueError: if a setting is incompatible with the task.
        """
        has_images = isinstance(codec, MediaCodec) and codec.media == "image"
        if self.patch_size is not None and not has_images:
            raise ValueError(
                "patch_size has no effect on sources that are not images; leave it out"
            )
        return super().build(codec)

    def _media_model(self, processor: Processor, target: Vocabulary, limit: int) -> PreTrainedModel:
        if processor.media == "audio":
            return self._speech_model(processor.inner, target, limit)
        size = processor.inner.size
        encoder = ViTConfig(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.inner,
            image_size=(size["height"], size["width"]),
            patch_size=self._find_patch_size(size["height"], size["width"]),
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=INIT_STD,
        )
        cross = {"is_decoder": True, "add_cross_attention": True, "initializer_range": INIT_STD}
        decoder = self._gpt2_config(target, target.size, limit, **cross)
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        for name, token in (_special(target) | {"decoder_start_token_id": target.bos}).items():
            setattr(config, name, token)
        return VisionEncoderDecoderModel(config)

    def _speech_model(
        self, extractor: Any, target: Vocabulary, limit: int
    ) -> WhisperForConditionalGeneration:
        config = WhisperConfig(
            vocab_size=target.size,
            num_mel_bins=extractor.feature_size,
            max_source_positions=extractor.nb_max_frames // 2,
            max_target_positions=self.count_positions(limit),
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **self._layers(target),
        )
        return WhisperForConditionalGeneration(config)

    def _layers(self, target: Vocabulary) -> dict[str, Any]:
        """Return the settings that the configurations of BART and of Whisper share."""
        return {
            "d_model": self.hidden_size,
            **dict.fromkeys(("encoder_layers", "decoder_layers"), self.layers),
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), self.heads),
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), self.inner),
            **dict.fromkeys(("dropout", "attention_dropout"), self.dropout),
            "activation_dropout": 0.0,
            "init_std": INIT_STD,
            "decoder_start_token_id": target.bos,
            **_special(target),
        }

    def _find_patch_size(self, height: int, width: int) -> int:
        """Return the size of patches.

        Raises:
            ValueError: if it does not divide the sides of the image.
        """
        if self.patch_size is None:
            fits = (p for p in (16, 8, 4, 2) if height % p == width % p == 0)
            return next((p for p in fits if height * width >= 32 * p * p), 1)
        if self.patch_size < 1 or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"patch_size is {self.patch_size}; it must divide the height and the width of "
                f"images, {height} and {width}"
            )
        return self.patch_size

    def _model(self, target: Vocabulary, rows: int, limit: int) -> BartForConditionalGeneration:
        config = BartConfig(
            vocab_size=rows,
            max_position_embeddings=self.count_positions(limit),
            activation_function="gelu",
            forced_eos_token_id=None,
            **self._layers(target),
        )
        return BartForConditionalGeneration(config)


def check_text(codec: Codec, kind: str) -> int:
    """Check that a Transformer supports a codec; return the maximum length of outputs.

    Raises:
        ValueError: if it does not; the message names the kind of model.
    """
    model = f"a {kind} model"
    if codec.features is not None:
        raise ValueError(
            f"sources are real-valued, which {model} cannot read; recurrent models can"
        )
    if len(codec.factors) > 1:
        raise ValueError(
            f"sources have {len(codec.factors)} tokens at each position, of which {model} reads "
            "one; recurrent models read them all"
        )
    if codec.limit is None:
        raise ValueError(f"outputs have no eos, which {model} needs; recurrent models do not")
    return codec.limit


def _special(target: Vocabulary) -> dict[str, Any]:
    """Return the special tokens, by their names in transformers."""
    return {"bos_token_id": target.bos, "eos_token_id": target.eos, "pad_token_id": target.pad}
