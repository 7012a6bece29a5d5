"""What `generate` hands over, and what of it cannot be done with a backspace."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation import (
    EosTokenCriteria,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MaxLengthCriteria,
    MinPLogitsWarper,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from freerun.batch import Source
from freerun.vocabulary import Vocabulary

OF_SCORES_ALONE = (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    InfNanRemoveLogitsProcessor,
    LogitNormalization,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
"""What makes scores of scores, whatever was written before."""

TAKEN = {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
"""The keywords of models that `generate` makes by itself, beside what an encoder gave."""

KEPT = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
"""What else `generate` can return."""


def check(
    model: PreTrainedModel,
    config: GenerationConfig,
    processors: LogitsProcessorList,
    given: dict[str, Any],
) -> None:
    """See that nothing was asked for that cannot be done."""
    if config.num_beams and config.num_beams > 1:
        raise ValueError(
            f"num_beams is {config.num_beams}; generate_with_backspace is greedy or samples, and "
            "cannot search with beams"
        )
    asked = (
        [name for name in KEPT if getattr(config, name)] if config.return_dict_in_generate else []
    )
    if asked:
        raise ValueError(f"generate_with_backspace returns actions, and cannot return {asked[0]}")
    for processor in processors:
        if not isinstance(processor, OF_SCORES_ALONE):
            raise ValueError(
                f"generate_with_backspace cannot apply {type(processor).__name__}: it may look at "
                "tokens that were withdrawn"
            )
    past = given.get("past_key_values")
    if past is not None and past.get_seq_length() > 0:
        raise ValueError("generate_with_backspace begins with no past_key_values; give the prompt")
    own = TAKEN | ({"encoder_outputs"} if model.config.is_encoder_decoder else set())
    for name, value in given.items():
        if value is not None and name not in own:
            raise ValueError(f"generate_with_backspace cannot give {name} to the model")


def ends(criteria: StoppingCriteriaList) -> tuple[list[int], int]:
    """The tokens that end a row, and the most tokens of a row with its prompt."""
    eos: list[int] = []
    longest = None
    for criterion in criteria:
        if isinstance(criterion, EosTokenCriteria):
            eos += criterion.eos_token_id.flatten().tolist()
        elif isinstance(criterion, MaxLengthCriteria):
            most = criterion.max_length
            longest = most if longest is None else min(longest, most)
        else:
            raise ValueError(f"generate_with_backspace cannot stop by {type(criterion).__name__}")
    if longest is None:
        raise ValueError("generate_with_backspace needs max_new_tokens, the most actions of a row")
    return eos, longest


def vocabulary_of(
    model: PreTrainedModel,
    prompts: Int[Tensor, "n p"],
    config: GenerationConfig,
    backspace: int | None,
    eos: list[int],
) -> Vocabulary:
    """All tokens of the model."""
    tables = (model.get_output_embeddings(), model.get_input_embeddings())
    actions = min(table.weight.shape[0] for table in tables)
    if backspace is None:
        raise ValueError("name the token that withdraws the last one: backspace_token_id=…")
    if not 0 <= backspace < actions:
        raise ValueError(
            f"backspace_token_id is {backspace}; it must be a token of the model, "
            f"0 to {actions - 1}"
        )
    if backspace in eos:
        raise ValueError(f"backspace_token_id is {backspace}, which is an eos token")
    pad = config._pad_token_tensor  # what `generate` itself fills rows with
    if pad is None:
        raise ValueError("rows end at different lengths: give pad_token_id")
    # A causal model reads its prompt, and no bos.
    bos = int(prompts[0, 0]) if model.config.is_encoder_decoder else int(pad)
    symbols = tuple(map(str, range(actions)))
    first = eos[0] if eos else None
    return Vocabulary(symbols, bos=bos, pad=int(pad), eos=first, backspace=backspace)


def prompts_of(
    prompts: Int[Tensor, "n p"], mask: Tensor | None, positions: Tensor | None
) -> Source:
    """Prompts that are padded on the left, padded behind."""
    there = torch.ones_like(prompts) if mask is None else mask.to(prompts.device).long()
    expected = there.cumsum(1) - 1
    if positions is not None and bool(
        ((positions.to(prompts.device) != expected) & (there > 0)).any()
    ):
        raise ValueError("generate_with_backspace counts positions itself; leave out position_ids")
    order = (1 - there).argsort(dim=1, stable=True)
    return Source(prompts.gather(1, order), there.gather(1, order).bool())


def sources_of(starts: Int[Tensor, "n p"], inputs: Tensor | None, mask: Tensor | None) -> Source:
    """What an encoder reads for every row."""
    if inputs is None or inputs.is_floating_point() or inputs.dim() != 2:
        raise ValueError("generate_with_backspace needs the tokens of the encoder, input_ids")
    if starts.shape[1] != 1 or bool((starts != starts[0]).any()):
        raise ValueError(
            "generate_with_backspace starts decoders with one token, the same for every row; "
            "decoder_input_ids cannot be given"
        )
    inputs = inputs.to(starts.device).repeat_interleave(len(starts) // len(inputs), 0)
    there = (
        torch.ones_like(inputs, dtype=torch.bool) if mask is None else mask.to(inputs.device).bool()
    )
    if bool((there[:, 1:] & ~there[:, :-1]).any()):
        raise ValueError("generate_with_backspace needs sources that are padded on the right")
    return Source(inputs, there)
