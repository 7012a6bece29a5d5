"""Encoder-decoders whose encoder reads images or sounds, as policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from freerun.batch import Source
from freerun.costs.rows import length_mask
from freerun.models.huggingface.base import Inputs
from freerun.models.huggingface.cache import KeyValues
from freerun.models.huggingface.seq2seq import Seq2SeqPolicy
from freerun.models.huggingface.stack import HiddenOnly, replace_forward
from freerun.models.huggingface.state import EncoderOutputs

EXAMPLE_WAVE, EXAMPLE_FRAMES = 8_000, 400
"""The number of time steps of sounds of variable length with which a model is checked."""


@dataclass(frozen=True)
class MediaInput:
    """What an encoder reads.

    Args:
        name: the argument of the model: `pixel_values`, `input_features` or `input_values`.
        shape: the shape of one source; the first size is None if it varies, as the length of a
            sound does. A mask then says which part is padding.
    """

    name: str
    shape: tuple[int | None, ...]

    @property
    def varies(self) -> bool:
        """Whether sources differ in length."""
        return self.shape[0] is None


def find_media_input(model: PreTrainedModel) -> MediaInput:
    """Find what the encoder of a model reads, by its configuration.

    Raises:
        ValueError: if it is not known how the model reads images or sounds.
    """
    name, config = model.main_input_name, model.config
    inner: Any = getattr(config, "encoder", config)  # that of a VisionEncoderDecoderModel
    if name == "pixel_values" and hasattr(inner, "image_size"):
        size = inner.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return MediaInput(name, (inner.num_channels, height, width))
    if name == "input_features" and hasattr(config, "num_mel_bins"):  # Whisper
        return MediaInput(name, (config.num_mel_bins, 2 * config.max_source_positions))
    if name == "input_features" and hasattr(config, "input_feat_per_channel"):  # Speech2Text
        return MediaInput(name, (None, config.input_feat_per_channel * config.input_channels))
    if name in ("input_values", "inputs"):  # a wave
        return MediaInput("input_values", (None,))
    raise ValueError(
        f"{type(model).__name__} reads {name}, of which the shape is not known; override "
        "find_input in a subclass of MediaPolicy and register it with register_policy"
    )


class MediaPolicy(Seq2SeqPolicy):
    """An encoder-decoder that reads images or sounds, and writes text (see `Seq2SeqPolicy`).

    `Source.values` of a batch is what the model's processor makes: `pixel_values`
    [b, channels, height, width], `input_features` or `input_values`. `Source.mask` marks padding
    along its second axis if that is the time of sounds of different lengths, and is true
    everywhere otherwise.
    """

    def find_input(self) -> MediaInput:
        """Return what the encoder reads."""
        return find_media_input(self.inner)

    def find_max_source_length(self) -> int | None:
        """Return None: the processor determines the length of sources."""
        return None

    def make_example_source(self, lengths: Sequence[int]) -> Source:
        """Return waves of different frequencies, of different lengths if lengths vary."""
        first, *rest = self.find_input().shape
        steps = EXAMPLE_FRAMES if rest else EXAMPLE_WAVE
        sizes = [steps * n // max(lengths) if first is None else first for n in lengths]
        shape = torch.Size((len(lengths), max(sizes), *(size or 1 for size in rest)))
        device = self.device
        values = torch.arange(shape[1:].numel(), device=device).float()
        speeds = torch.arange(1, len(lengths) + 1, device=device)[:, None]
        mask = length_mask(max(sizes), torch.tensor(sizes, device=device))
        waves = (0.37 * speeds * values).sin().view(shape)
        padding = ~mask.view(*mask.shape, *(1 for _ in rest))
        return Source(waves.masked_fill(padding, 0.0), mask)

    def name_inputs(self, source: Source) -> dict[str, Tensor]:
        """Return sources as arguments of the model's own forward pass."""
        if not source.values.is_floating_point():
            raise ValueError(
                f"{type(self.inner).__name__} reads images or sounds, not tokens: see MediaCodec"
            )
        found = self.find_input()
        # The mask of sources of one size only tells the padding behind it.
        values = source.values if found.varies else source.values[:, : found.shape[0]]
        given = {found.name: values.to(self.dtype)}
        return given | ({"attention_mask": source.mask.long()} if found.varies else {})

    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n q h"], KeyValues, EncoderOutputs | None]:
        """Run the decoder over new slots."""
        # Embeddings, as decoders that see pad tokens without a mask warn about them.
        embedded = inputs if inputs.is_floating_point() else self.embed(inputs)
        return super().read(embedded, positions, mask, past, encoder)

    def _encode(self, source: Source) -> EncoderOutputs:
        """Return what the decoder attends to.

        Sounds of different lengths are encoded separately: convolutions and norms would read their
        padding, so that a row would depend on its batch.
        """
        if not self.find_input().varies:
            return self._run_encoder(source)
        lengths, groups, found = source.lengths, [], []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            groups.append(rows)
            part = Source(source.values[rows, :length], source.mask[rows, :length])
            found.append(self._run_encoder(part).hidden)
        order = torch.cat(groups).argsort()
        longest = max(hidden.shape[1] for hidden in found)
        padded = [F.pad(hidden, (0, 0, 0, longest - hidden.shape[1])) for hidden in found]
        sizes = torch.tensor([len(row) for hidden in found for row in hidden], device=order.device)
        mask = length_mask(longest, sizes[order])
        return EncoderOutputs(torch.cat(padded)[order], mask, KeyValues.empty())

    def _run_encoder(self, source: Source) -> EncoderOutputs:
        """Return what the model's own forward pass gives its decoder to attend to.

        That may be a projection of the output of the encoder.
        """
        seen: dict[str, Any] = {}
        count, width = len(source.mask), self.decoder.config.hidden_size
        states = torch.zeros(count, 1, width, dtype=self.dtype, device=self.device)

        def stand_in(*args: object, **kwargs: object) -> HiddenOnly:
            seen.update(kwargs)
            return HiddenOnly(last_hidden_state=states)

        first = torch.full((count, 1), self.vocabulary.bos, device=self.device)
        with replace_forward(self.decoder, stand_in):
            self.inner(**self.name_inputs(source), decoder_input_ids=first, use_cache=False)
        return EncoderOutputs(seen["encoder_hidden_states"], None, KeyValues.empty())
