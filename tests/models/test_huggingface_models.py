"""Which Hugging Face models become policies, and which are refused, by name of what differs."""

import peft
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from freerun.batch import Source
from freerun.models import CausalPolicy, Seq2SeqPolicy
from freerun.models.huggingface import adapt, find_policy_class, register_policy, registry
from freerun.models.huggingface.stack import run_head
from tests.helpers import close, gradients
from tests.models.models import (
    ARCHITECTURES,
    DECODER,
    plain_scores,
    text_batch,
    text_source,
    tiny_adapted,
    tiny_model,
    words_of,
)

# Which peft does not yet know of.
DEPRECATED = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def adapted(model, **settings):
    return adapt(model, words_of("llama"), limit=5, **settings)


def broken(name, change, **settings):
    """A tiny model whose decoder is called in another way than it was asked to be."""
    model = tiny_model(name, **settings)
    decoder = model.get_decoder()
    forward = decoder.forward

    def called(*args, **kwargs):
        return forward(*args, **change(kwargs))

    decoder.forward = called
    return model


def without(*names):
    return lambda given: {name: value for name, value in given.items() if name not in names}


# The probe


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_model_that_ignores_positions_is_refused(name):
    """It counts slots instead, of which rows have different numbers."""
    model = broken(name, without("position_ids"))
    kind = type(model).__name__
    with pytest.raises(ValueError, match=rf"^{kind} cannot be used: its scores of .* differ from"):
        adapted(model)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
def test_a_model_that_ignores_masks_is_refused(name):
    """It looks at padding. (Relative positions alone would not tell.)"""
    model = broken(name, without("attention_mask", "encoder_attention_mask"))
    with pytest.raises(ValueError, match=r"cannot be used: its scores of .* differ from"):
        adapted(model)


@pytest.mark.parametrize("name", ["llama", "t5", "bart"])
def test_a_model_that_ignores_its_cache_is_refused(name):
    model = broken(name, lambda given: given | {"past_key_values": None})
    with pytest.raises(ValueError, match=r"it keeps no keys and values"):
        adapted(model)


class Shifted(LlamaForCausalLM):
    """Adds to its scores something that depends on the number of slots."""

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = found.logits * (1 + found.logits.shape[1])
        return found


class Doubled(LlamaForCausalLM):
    """Does something to its scores that its configuration does not name."""

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = 2 * found.logits
        return found


@pytest.fixture
def doubled():
    """A policy registered for `Doubled`."""

    @register_policy(Doubled)
    class DoubledPolicy(CausalPolicy):
        def project(self, hidden):
            return 2 * self.inner.lm_head(hidden)[..., : self.vocabulary.actions]

    yield DoubledPolicy
    del registry._POLICIES[Doubled]


def test_what_a_subclass_overrides_is_named_where_it_fails(doubled, monkeypatch):
    """And not the cache, which is not at fault."""

    def project(self, hidden):
        return hidden @ torch.ones(3, 3)

    monkeypatch.setattr(doubled, "project", project)
    model = Doubled(LlamaConfig(vocab_size=16, **DECODER)).eval()
    with pytest.raises(
        ValueError, match=r"^Doubled cannot be used: project of DoubledPolicy fails \("
    ):
        adapted(model)


@DEPRECATED
def test_a_registered_policy_adapts_its_models(doubled):
    """Also models of subclasses and with adapters, and no others."""

    class Child(Doubled):
        pass

    config = LlamaConfig(vocab_size=16, **DECODER)
    for kind in (Doubled, Child):
        policy = adapted(kind(config).double().eval())
        assert type(policy) is doubled
        source, inputs = text_source(policy, (3,)), torch.tensor([[2, 5, 6]])
        everywhere = torch.ones_like(inputs, dtype=torch.bool)
        found = policy.force(source, inputs).logits(everywhere)
        close(found, plain_scores(policy, source, inputs), 2e-5)
    assert type(adapted(LlamaForCausalLM(config).double().eval())) is CausalPolicy
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    assert type(adapted(peft.get_peft_model(Doubled(config), lora))) is doubled


def test_only_policies_are_registered():
    message = r"^the policy of Doubled must be a subclass of CausalPolicy, Seq2SeqPolicy or Hugging"
    with pytest.raises(TypeError, match=message):
        register_policy(Doubled)(LlamaForCausalLM)


def test_the_last_registered_policy_counts(doubled):
    @register_policy(Doubled)
    class Other(doubled):
        pass

    assert find_policy_class(Doubled(LlamaConfig(vocab_size=16, **DECODER))) is Other


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
@pytest.mark.parametrize("trees", [False, True])
def test_no_memory_is_told_as_such(monkeypatch, error, trees):
    """Whether it lacks for rows, or for trees, which would else be taken for unreadable."""
    model, force = tiny_model("gpt2"), CausalPolicy.force

    def fail(self, source, inputs, parents=None):
        if trees and parents is None:
            return force(self, source, inputs)
        raise error

    monkeypatch.setattr(CausalPolicy, "force", fail)
    message = r"^out of memory while the scores of GPT2LMHeadModel were checked .*: (CUDA|Default)"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        adapted(model).can_withdraw  # noqa: B018  (trees are tried when first asked for)


class Tempered(LlamaForCausalLM):
    """Divides its scores by a temperature that it learns, 1 at first."""

    def __init__(self, config):
        super().__init__(config)
        self.log_temperature = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.logits = found.logits / self.log_temperature.exp()
        return found


@pytest.mark.parametrize("kind", [Doubled, Tempered])
def test_a_head_of_its_own_is_that_of_its_forward_pass(kind):
    """Also when a weight that had no effect at first has one after an update, and in gradients."""
    model = kind(LlamaConfig(vocab_size=16, **DECODER)).double().eval()
    policy = adapted(model)
    assert policy.head_scale is None
    if kind is Tempered:
        with torch.no_grad():
            model.log_temperature.fill_(0.5)
    source, inputs = text_source(policy, (3,)), torch.tensor([[2, 5, 6]])
    scores = policy.force(source, inputs).logits(torch.ones_like(inputs, dtype=torch.bool))
    expected = plain_scores(policy, source, inputs)
    close(scores, expected, 2e-5)
    weights = [w for w in model.parameters() if w.requires_grad]
    found, wanted = (torch.autograd.grad(s.square().sum(), weights) for s in (scores, expected))
    for one, other in zip(found, wanted, strict=True):
        close(one, other, 1e-4)
    _, state = policy.step(policy.start(source), inputs[:, 0])
    step, _ = policy.step(state, inputs[:, 1])
    close(step[0], expected[1], 2e-5)


def test_a_plain_head_is_called_alone():
    assert adapted(tiny_model("llama")).head_scale == 1


def test_a_head_of_scaled_states_is_called_alone():
    """As that of T5, whose scores are those of the states divided by the root of their size."""
    policy = tiny_adapted("t5")
    assert policy.head_scale == policy.config.d_model**-0.5
    hidden = torch.randn(3, policy.config.d_model, dtype=policy.dtype)
    expected = run_head(policy.inner, policy.decoder, hidden)[:, : policy.vocabulary.actions]
    assert torch.equal(policy.project(hidden), expected)


def test_scores_that_depend_on_more_than_hidden_states_are_refused():
    model = Shifted(LlamaConfig(vocab_size=16, **DECODER)).double().eval()
    message = (
        r"^Shifted cannot be used: its scores of a row alone .* override embed, read or project "
    )
    with pytest.raises(ValueError, match=message):
        adapted(model)


def test_a_model_that_sees_what_follows_is_refused():
    """As encoders do that are loaded as causal models."""
    model = tiny_model("llama", attention="eager")
    for layer in model.model.layers:
        forward = layer.self_attn.forward

        def called(*args, forward=forward, **kwargs):
            mask = kwargs.get("attention_mask")
            return forward(*args, **kwargs | {"attention_mask": mask if mask is None else 0 * mask})

        layer.self_attn.forward = called
    with pytest.raises(ValueError, match=r"cannot be used: its scores of .* differ"):
        adapted(model)


def test_a_model_without_keys_and_values_is_refused():
    """Its state is a sum over all it has read, which cannot be taken apart."""
    config = MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, state_size=4)
    model = MambaForCausalLM(config).eval()
    with pytest.raises(ValueError, match=r"^MambaForCausalLM cannot be used: "):
        adapted(model)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_angles_that_depend_on_the_longest_row_are_kept_as_they_are(kind):
    """Else a long row would change the scores of a short one beside it."""
    bound = 12
    scaling = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
    if kind == "longrope":
        scaling |= {"short_factor": [1.0] * 2, "long_factor": [2.0] * 2}
        scaling |= {"original_max_position_embeddings": bound}
    config = LlamaConfig(
        vocab_size=16, **DECODER | {"rope_parameters": scaling, "max_position_embeddings": bound}
    )
    policy = adapted(LlamaForCausalLM(config).double().eval(), shared=True)
    source, long = text_source(policy, (3, 2)), text_source(policy, (3, bound))
    assert policy.limit(source).tolist() == [5, 5]
    assert policy.limit(long).tolist() == [5, 1]
    inputs = torch.full((2, 1), 2)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    found = [policy.force(some, inputs).logits(everywhere)[0] for some in (source, long)]
    first = source.select(torch.tensor([0]))
    expected = plain_scores(policy, first, inputs[:1])[0]
    for scores in found:
        close(scores, expected, 2e-5)
    more = text_source(policy, (3, bound + 1))
    for run in (policy.limit, policy.start):
        with pytest.raises(
            ValueError, match=f"row 1 has {bound + 1} tokens, .* of the {bound} pos"
        ):
            run(more)
    with pytest.raises(
        ValueError, match=f"row 1 is longer than the {bound} positions of the model"
    ):
        policy.force(more, inputs).logits(everywhere)


def test_a_row_of_not_a_number_is_refused():
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(ValueError, match="cannot be used"):
        adapted(model)


# What is asked of the vocabulary


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_fewer_tokens_than_the_vocabulary_are_refused(name):
    message = r"^the model has 12 tokens, fewer than the 13 of the vocabulary; see resize_token_em"
    with pytest.raises(ValueError, match=message):
        adapted(tiny_model(name, rows=12))
    adapted(tiny_model(name, rows=13))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ValueError, match=rf"^limit is {limit}; it must be at least 1$"):
        adapt(tiny_model("gpt2"), words_of("gpt2"), limit=limit)


def test_the_kind_of_policy_follows_the_configuration():
    assert type(adapted(tiny_model("gpt2"))) is CausalPolicy
    assert type(adapted(tiny_model("t5"))) is Seq2SeqPolicy


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_sources_that_are_no_tokens_are_refused(name, shared):
    policy = tiny_adapted(name, shared=shared)
    mask = torch.ones(2, 3, dtype=torch.bool)
    for values in (torch.rand(2, 3, 4), torch.ones(2, 3, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"reads tokens, one at each position of the source$"):
            policy.start(Source(values, mask))


# What adapting leaves as it is


@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_adapting_changes_nothing(name):
    """Neither modes nor weights, gradients, chance, or what the model gives."""
    model = tiny_model(name, dropout=0.5).train()
    list(model.modules())[5].eval()
    modes = [module.training for module in model.modules()]
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    cache, chance = model.config.use_cache, torch.random.get_rng_state()
    policy = adapted(model)
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert [module.training for module in model.modules()] == modes
    assert policy.model is model
    assert model.config.use_cache == cache
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    policy.eval()
    source, inputs = text_source(policy, (3,)), torch.tensor([[2, 5, 6]])
    before = plain_scores(policy, source, inputs)
    policy.force(source, inputs).logits(torch.ones_like(inputs, dtype=torch.bool))
    policy.step(policy.start(source), inputs[:, 0])
    assert torch.equal(plain_scores(policy, source, inputs), before)


def test_an_adapted_model_may_be_adapted_again():
    model = tiny_model("bart")
    first, second = adapted(model), adapted(model)
    batch = text_batch(first)
    inputs = batch.inputs(first.vocabulary.bos)
    found = [policy.force(batch.source, inputs).logits(batch.mask) for policy in (first, second)]
    assert torch.equal(*found)


# Adapters


LORA = {"r": 2, "lora_alpha": 8, "lora_dropout": 0.0}
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "t5": ["q", "v"], "bart": ["q_proj"]}


def lora(name, *, dropout=0.0):
    """A tiny model with adapters that do something."""
    task = "CAUSAL_LM" if ARCHITECTURES[name].causal else "SEQ_2_SEQ_LM"
    settings = LORA | {"lora_dropout": dropout, "fan_in_fan_out": name == "gpt2"}
    config = peft.LoraConfig(task_type=task, target_modules=TARGETS[name], **settings)
    model = peft.get_peft_model(tiny_model(name), config).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(0, 0.5, generator=generator)
    return model.eval()


def forced(policy, batch):
    return policy.force(batch.source, batch.inputs(policy.vocabulary.bos)).logits(batch.mask)


@DEPRECATED
@pytest.mark.parametrize("name", list(TARGETS))
def test_lora(name):
    """It is in the scores; it alone is trained; merged into the weights, it scores the same."""
    base = adapt(tiny_model(name), words_of(name), limit=5)
    policy = adapt(lora(name), words_of(name), limit=5)
    batch, tolerance = text_batch(policy), ARCHITECTURES[name].tolerance
    scores = forced(policy, batch)
    assert not torch.allclose(scores, forced(base, batch), atol=0.1)
    found = gradients(policy, scores.square().sum())
    assert found
    assert all("lora_" in key for key in found)
    assert all(bool(gradient.any()) for gradient in found.values())
    state, steps = policy.start(batch.source), []
    for tokens in batch.inputs(policy.vocabulary.bos).T:
        step, state = policy.step(state, tokens)
        steps.append(step)
    close(torch.stack(steps, 1)[batch.mask], scores, tolerance)
    merged = policy.model.merge_and_unload()
    close(forced(adapt(merged, words_of(name), limit=5), batch), scores, tolerance)


@DEPRECATED
def test_adapters_are_saved_alone(tmp_path):
    policy = adapt(lora("gpt2"), words_of("gpt2"), limit=5)
    policy.save_pretrained(str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names
    loaded = peft.PeftModel.from_pretrained(tiny_model("gpt2"), str(tmp_path)).eval()
    batch = text_batch(policy)
    again = adapt(loaded, words_of("gpt2"), limit=5)
    close(forced(again, batch), forced(policy, batch), 1e-6)


@DEPRECATED
@pytest.mark.parametrize("kind", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_learnt_prompts_are_refused(kind):
    config = kind(task_type="CAUSAL_LM", num_virtual_tokens=2)
    model = peft.get_peft_model(tiny_model("gpt2", dtype=torch.float32), config)
    with pytest.raises(
        ValueError, match=r"^adapters that learn a prompt cannot be used; LoRA can$"
    ):
        adapted(model)
