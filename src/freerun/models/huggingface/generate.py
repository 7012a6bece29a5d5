"""Generation with a backspace for `generate` of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
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
from transformers.utils import ModelOutput

from freerun.backspaces.trees import compute_depths, mark_tokens
from freerun.batch import Source
from freerun.decoding import Sampler, backtrack, choose_greedily, sample_tokens
from freerun.models.huggingface.registry import adapt
from freerun.vocabulary import Vocabulary

STATELESS_PROCESSORS = (
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
"""Processors that depend only on scores, not on the tokens before."""

GENERATE_KWARGS = {
    "attention_mask",
    "position_ids",
    "past_key_values",
    "cache",  # the same, from transformers 5.24 on
    "use_cache",
    "logits_to_keep",
}
"""The arguments of models that `generate` adds by itself, besides encoder outputs."""

EXTRA_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
"""Other outputs that `generate` can return."""


def check_settings(
    model: PreTrainedModel,
    config: GenerationConfig,
    processors: LogitsProcessorList,
    given: dict[str, Any],
) -> None:
    """Check that `generate_with_backspace` supports all arguments."""
    if config.num_beams and config.num_beams > 1:
        raise ValueError(
            f"num_beams is {config.num_beams}; generate_with_backspace is greedy or samples, and "
            "cannot search with beams"
        )
    asked = (
        [name for name in EXTRA_OUTPUTS if getattr(config, name)]
        if config.return_dict_in_generate
        else []
    )
    if asked:
        raise ValueError(f"generate_with_backspace returns actions, and cannot return {asked[0]}")
    for processor in processors:
        if not isinstance(processor, STATELESS_PROCESSORS):
            raise ValueError(
                f"generate_with_backspace cannot apply {type(processor).__name__}: it may depend "
                "on withdrawn tokens"
            )
    past = given.get("cache", given.get("past_key_values"))
    if past is not None and past.get_seq_length() > 0:
        raise ValueError(
            "generate_with_backspace does not support past_key_values; pass the prompt"
        )
    own = GENERATE_KWARGS | ({"encoder_outputs"} if model.config.is_encoder_decoder else set())
    for name, value in given.items():
        if value is not None and name not in own:
            raise ValueError(f"generate_with_backspace cannot pass {name} to the model")


def find_ends(criteria: StoppingCriteriaList) -> tuple[list[int], int]:
    """Return the tokens that end a row, and the maximum length of a row with its prompt."""
    eos: list[int] = []
    longest = None
    for criterion in criteria:
        if isinstance(criterion, EosTokenCriteria):
            eos += criterion.eos_token_id.flatten().tolist()
        elif isinstance(criterion, MaxLengthCriteria):
            limit = criterion.max_length
            longest = limit if longest is None else min(longest, limit)
        else:
            raise ValueError(f"generate_with_backspace cannot stop by {type(criterion).__name__}")
    if longest is None:
        raise ValueError(
            "generate_with_backspace needs max_new_tokens, the maximum number of actions of a row"
        )
    return eos, longest


def make_vocabulary(
    model: PreTrainedModel,
    prompts: Int[Tensor, "n p"],
    config: GenerationConfig,
    backspace: int | None,
    eos: list[int],
) -> Vocabulary:
    """Return a vocabulary of all tokens of the model."""
    tables = (model.get_output_embeddings(), model.get_input_embeddings())
    actions = min(table.weight.shape[0] for table in tables)
    if backspace is None:
        raise ValueError("pass backspace_token_id, the token that withdraws the last one")
    if not 0 <= backspace < actions:
        raise ValueError(
            f"backspace_token_id is {backspace}; it must be a token of the model, "
            f"0 to {actions - 1}"
        )
    if backspace in eos:
        raise ValueError(f"backspace_token_id is {backspace}, which is an eos token")
    pad = config._pad_token_tensor  # with which `generate` itself pads
    if pad is None:
        raise ValueError("rows end at different lengths: pass pad_token_id")
    # A causal model reads its prompt instead of bos.
    bos = int(prompts[0, 0]) if model.config.is_encoder_decoder else int(pad)
    symbols = tuple(map(str, range(actions)))
    first = eos[0] if eos else None
    return Vocabulary(symbols, bos=bos, pad=int(pad), eos=first, backspace=backspace)


def make_prompts(
    prompts: Int[Tensor, "n p"], mask: Tensor | None, positions: Tensor | None
) -> Source:
    """Convert prompts that are padded on the left to prompts padded on the right."""
    there = torch.ones_like(prompts) if mask is None else mask.to(prompts.device).long()
    expected = there.cumsum(1) - 1
    if positions is not None and bool(
        ((positions.to(prompts.device) != expected) & (there > 0)).any()
    ):
        raise ValueError("generate_with_backspace counts positions itself; leave out position_ids")
    order = (1 - there).argsort(dim=1, stable=True)
    return Source(prompts.gather(1, order), there.gather(1, order).bool())


def make_sources(starts: Int[Tensor, "n p"], inputs: Tensor | None, mask: Tensor | None) -> Source:
    """Return the inputs of the encoder."""
    if inputs is None or inputs.is_floating_point() or inputs.dim() != 2:
        raise ValueError("generate_with_backspace needs the tokens of the encoder, input_ids")
    if starts.shape[1] != 1 or bool((starts != starts[0]).any()):
        raise ValueError(
            "generate_with_backspace starts decoders with one token, the same for every row; "
            "decoder_input_ids cannot be given"
        )
    inputs = inputs.to(starts.device).repeat_interleave(len(starts) // len(inputs), 0)
    if mask is None:
        mask = torch.ones_like(inputs)
    mask = mask.to(inputs.device).bool()
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("generate_with_backspace needs sources that are padded on the right")
    return Source(inputs, mask)


@dataclass
class BackspaceOutput(ModelOutput):
    """The result of `generate_with_backspace` if `return_dict_in_generate` is true.

    Args:
        sequences: the given prompts, and the tokens that remain, eos included.
        actions: all actions of each row: tokens, backspaces and eos.
        action_mask: true on actions, false on the padding that follows them.
        backtracked: true on the actions that withdrew a token.
    """

    sequences: Int[Tensor, "n s"] | None = None
    actions: Int[Tensor, "n u"] | None = None
    action_mask: Bool[Tensor, "n u"] | None = None
    backtracked: Bool[Tensor, "n u"] | None = None


def generate_with_backspace(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "n p"],
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    inputs_tensor: Tensor | None = None,
    backspace_token_id: int | None = None,
    seed: int | None = None,
    **model_kwargs: Any,
) -> Int[Tensor, "n s"] | BackspaceOutput:
    """Generate greedily or by sampling, with a token that withdraws the last one.

    Pass this function to `generate`, which calls it:

        model.generate(**inputs, custom_generate=generate_with_backspace, backspace_token_id=7)

    `do_sample`, temperature and truncation work as in `generate`; `max_new_tokens` counts
    backspaces, and there may be several eos tokens. Prompts of a causal model are padded on the
    left, sources of an encoder-decoder on the right. A prompt is never withdrawn. A row also ends
    at the last position of the model. A streamer only gets the prompt, and an assistant model is
    not used, because `generate` does not pass them on. In greedy generation, a token that was
    withdrawn is not written there again (see `freerun.decoding.backtrack`).

    Args:
        model: a causal model or an encoder-decoder.
        input_ids: the prompts, or the token that a decoder starts with.
        logits_processor: passed by `generate`.
        stopping_criteria: passed by `generate`.
        generation_config: passed by `generate`.
        inputs_tensor: the inputs of the encoder; passed by `generate`.
        backspace_token_id: the token that withdraws the last one.
        seed: the seed of samples; by default drawn from torch's generator, so that `set_seed` works
            as it does for `generate`.
        model_kwargs: the arguments that `generate` would pass to the model.

    Returns:
        The prompts and the remaining tokens, padded on the right; or `BackspaceOutput`.

    Raises:
        ValueError: if a setting is not supported, tokens cannot be withdrawn, or no backspace is
            named.
    """
    check_settings(model, generation_config, logits_processor, model_kwargs)
    device, (eos, longest) = model.device, find_ends(stopping_criteria)
    prompts, limit = input_ids.to(device), longest - input_ids.shape[1]
    words = make_vocabulary(model, prompts, generation_config, backspace_token_id, eos)
    mask = model_kwargs.get("attention_mask")
    if model.config.is_encoder_decoder:
        source = make_sources(prompts, inputs_tensor, mask)
    else:
        source = make_prompts(prompts, mask, model_kwargs.get("position_ids"))
    policy = adapt(model, words, limit=limit)
    sampled = bool(generation_config.do_sample)
    if seed is not None and not sampled:
        raise ValueError("seed has no effect on greedy generation; set do_sample")
    if seed is None and sampled:
        seed = int(torch.randint(2**62, ()))
    choose = _MergedEos(_make_sampler(logits_processor, prompts, seed), eos, prompts)
    decoded = backtrack(policy, source, choose, forbid_repeats=not sampled)
    actions, taken = decoded.all_actions
    choose.restore_eos(decoded.tokens, decoded.lengths, decoded.ended)
    choose.restore_eos(actions, taken.sum(1), decoded.ended)
    sequences = torch.cat([prompts, decoded.tokens], 1).to(input_ids.device)
    if not generation_config.return_dict_in_generate:
        return sequences
    writes = mark_tokens(actions, taken, words.backspace)
    back = taken & ~writes & (compute_depths(writes, taken)[:, :-1] > 0)
    return BackspaceOutput(
        sequences, *(part.to(input_ids.device) for part in (actions, taken, back))
    )


def _make_sampler(
    processors: LogitsProcessorList, prompts: Int[Tensor, "n p"], seed: int | None
) -> Sampler:
    """Return a sampler that chooses as `generate` does; greedy without a seed."""
    numbers = torch.arange(len(prompts), device=prompts.device)

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        scores = processors(prompts[rows], scores)
        if seed is None:
            return choose_greedily(scores, rows, cell)
        log_probs = scores.log_softmax(-1)
        tokens = sample_tokens(log_probs, seed, "generate", numbers[rows], cell)
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    return choose


class _MergedEos:
    """A sampler for several eos tokens: it returns the first of them for all.

    A vocabulary has one eos. `restore_eos` restores the token that ended a row.
    """

    def __init__(self, choose: Sampler, eos: list[int], prompts: Int[Tensor, "n p"]) -> None:
        self.choose, self.eos = choose, torch.tensor(eos, dtype=torch.long, device=prompts.device)
        self.last = prompts.new_full((len(prompts),), -1)

    def __call__(
        self, scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """Return the actions of some rows and their log-probabilities."""
        tokens, log_probs = self.choose(scores, rows, cell)
        if len(self.eos) < 2:
            return tokens, log_probs
        closes = torch.isin(tokens, self.eos)
        # Rows that have ended may still be sampled; only the first eos counts.
        self.last[rows] = tokens.where(closes & (self.last[rows] < 0), self.last[rows])
        return self.eos[0].where(closes, tokens), log_probs

    def restore_eos(
        self, tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], ended: Bool[Tensor, "n"]
    ) -> None:
        """Restore the token that ended each row."""
        if len(self.eos) > 1:
            rows = ended.nonzero()[:, 0]
            tokens[rows, lengths[rows] - 1] = self.last[rows]
