"""A backspace for models that lack one: its rows, what stays as it was, and what is refused."""

import copy
from dataclasses import replace

import peft
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from freerun.batch import Source
from freerun.data import TextCodec
from freerun.models.backspace import add_backspace, with_backspace
from freerun.models.huggingface import adapt
from freerun.models.huggingface.generation import find_replaced_settings
from freerun.models.settings import CausalSettings, RecurrentSettings, Seq2SeqSettings
from tests.codecs import two_alphabets
from tests.helpers import chain, raises
from tests.tasks.tiny_tokenizers import word_tokenizer

TOKENIZER = word_tokenizer()
SIZE = len(TOKENIZER)
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 1,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
MODELS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config, GPT2),
    "llama": (LlamaForCausalLM, LlamaConfig, SMALL | {"tie_word_embeddings": False}),
    "llama, tied": (LlamaForCausalLM, LlamaConfig, SMALL | {"tie_word_embeddings": True}),
    "phi, with a bias": (PhiForCausalLM, PhiConfig, SMALL | {"tie_word_embeddings": False}),
    "bart": (BartForConditionalGeneration, BartConfig, BART),
}
CODEC = two_alphabets("+0123", "0123-", 5)
RECURRENT = RecurrentSettings(hidden_size=12, embedding_size=8, attention="general")
CAUSAL = CausalSettings(hidden_size=16, layers=1, heads=2)
SEQ2SEQ = Seq2SeqSettings(hidden_size=16, layers=1, heads=2)
ADAPTED = [name for name in MODELS if name != "phi, with a bias"]
KINDS = {"recurrent": RECURRENT, "causal": CAUSAL, "seq2seq": SEQ2SEQ}


def made(name, rows=SIZE, spread=2.0):
    """A random model whose scores are far from even."""
    cls, config, settings = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = cls(config(vocab_size=rows, **SPECIAL, **settings)).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=spread / 10)
            head = model.get_output_embeddings()
            head.weight.mul_(spread)
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.normal_()
    return model


def scores(model, tokens):
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return model(input_ids=tokens, decoder_input_ids=tokens.flip(1)).logits
        return model(input_ids=tokens).logits


def tokens(rows=25, length=40):
    """A thousand positions."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, SIZE, (rows, length), generator=generator)


@pytest.mark.parametrize("spare", [0, 5])
@pytest.mark.parametrize("name", MODELS)
def test_its_probability_is_at_most_one_in_the_number_of_tokens(name, spare):
    model, read = made(name, SIZE + spare), tokens()
    before = scores(model, read)[..., :SIZE]
    random = torch.get_rng_state()
    found, tokenizer = add_backspace(model, TOKENIZER)
    assert torch.equal(torch.get_rng_state(), random)
    assert found is model
    assert tokenizer.backspace_token_id == SIZE
    assert model.config.vocab_size == SIZE + max(spare, 1)
    after = scores(model, read)[..., : SIZE + 1]
    torch.testing.assert_close(after[..., :SIZE], before)
    torch.testing.assert_close(after[..., SIZE], before.mean(-1), atol=1e-4, rtol=1e-4)
    probability = after.softmax(-1)[..., SIZE]
    assert probability.numel() == 1000
    assert float(probability.mean()) <= 1 / SIZE
    assert float(probability.max()) <= 1 / (SIZE + 1) + 1e-6
    assert float(probability.max()) > 1e-4, "scores so uneven show nothing"


@pytest.mark.parametrize("name", MODELS)
def test_tied_tables_stay_tied(name):
    model = made(name)
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = embedding is output
    assert tied == (name in ("gpt2", "llama, tied", "bart"))
    row = embedding.mean(0)
    add_backspace(model, TOKENIZER)
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embedding is output) == tied
    torch.testing.assert_close(embedding[SIZE], row)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_saved_and_loaded_by_plain_transformers(name, tmp_path):
    model, tokenizer = add_backspace(made(name), TOKENIZER)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    auto = AutoModelForSeq2SeqLM if model.config.is_encoder_decoder else AutoModelForCausalLM
    again = auto.from_pretrained(tmp_path).eval()
    assert torch.equal(scores(again, tokens(2)), scores(model, tokens(2)))
    there = AutoTokenizer.from_pretrained(tmp_path)
    assert there.backspace_token_id == SIZE
    same, tokens_of = add_backspace(again, there)
    assert same is again, "it has one already"
    assert tokens_of is there
    assert again.config.vocab_size == SIZE + 1


def test_half_precision_keeps_its_type():
    model, _ = add_backspace(made("llama").to(torch.bfloat16), TOKENIZER)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    row, others = model.lm_head.weight[SIZE], model.lm_head.weight[:SIZE]
    assert torch.equal(row, others.float().mean(0).to(torch.bfloat16))


def test_a_token_with_a_row_of_its_own_already_only_gets_the_rows():
    tokenizer = add_backspace(made("llama"), TOKENIZER)[1]
    model, same = add_backspace(made("llama"), tokenizer)
    assert same is tokenizer
    assert model.config.vocab_size == SIZE + 1


def test_tables_of_source_and_target_that_differ_are_refused():
    model = made("bart")
    model.model.decoder.embed_tokens = copy.deepcopy(model.model.decoder.embed_tokens)
    message = (
        "BartForConditionalGeneration cannot be given a backspace: its source and its target have "
        "tables of their own"
    )
    with raises(ValueError, message):
        add_backspace(model, TOKENIZER)


def batch_of(policy, codec):
    """Some sources and targets, and the scores at every cell."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 5, (4, 6), generator=generator)
    mask = torch.arange(6) < torch.tensor([6, 2, 4, 1])[:, None]
    written = torch.randint(0, 5, (4, 7), generator=generator)
    bos = torch.full((4, 1), policy.vocabulary.bos)
    with torch.no_grad():
        trace = policy.eval().force(Source(values, mask), torch.cat([bos, written], 1))
        return trace.logits(torch.ones(4, 8, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_vocabularies_keep_what_is_only_read(kind):
    torch.manual_seed(0)
    policy = KINDS[kind].build(CODEC)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(3)
    before, words = batch_of(policy, CODEC), policy.vocabulary
    found = with_backspace(policy)
    assert found is policy
    assert policy.vocabulary == words.with_backspace() == CODEC.with_backspace().target
    after = batch_of(policy, CODEC)
    torch.testing.assert_close(after[:, :-1], before)
    torch.testing.assert_close(after[:, -1], before.mean(1), atol=1e-5, rtol=1e-5)
    bound = 1 / policy.vocabulary.actions
    assert float(after.softmax(1)[:, -1].max()) <= bound + 1e-6
    assert with_backspace(policy) is policy
    assert policy.vocabulary.actions == words.actions + 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_drawn_are_the_same_without(kind):
    erasing = CODEC.with_backspace()
    policies = []
    for codec in (CODEC, erasing):
        torch.manual_seed(5)
        policies.append(KINDS[kind].build(codec))
    plain, policy = policies
    assert policy.vocabulary == erasing.target
    torch.testing.assert_close(batch_of(policy, CODEC)[:, :-1], batch_of(plain, CODEC))
    torch.testing.assert_close(batch_of(policy, CODEC), batch_of(with_backspace(plain), CODEC))


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_special_tokens_are_found_where_they_are_now(kind):
    policy = KINDS[kind].build(CODEC.with_backspace())
    words, config = policy.vocabulary, policy.config
    assert (config.bos_token_id, config.pad_token_id) == (words.bos, words.pad)
    assert config.eos_token_id == words.eos
    assert policy.model.generation_config.pad_token_id == words.pad
    if kind == "seq2seq":
        assert config.decoder_start_token_id == words.bos
        decoder = policy.model.get_decoder().get_input_embeddings()
        encoder = policy.model.get_encoder().get_input_embeddings()
        tables = [policy.model.get_input_embeddings(), decoder, encoder]
        assert [table.padding_idx for table in tables] == [words.pad] * 3


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_suppressed_tokens_move_up_too(kind):
    policy = KINDS[kind].build(CODEC)
    policy.model.generation_config = policy.generation_settings
    before = policy.model.generation_config.suppress_tokens
    assert before[0] == policy.vocabulary.actions
    with_backspace(policy)
    assert policy.model.generation_config.suppress_tokens == [token + 1 for token in before]
    assert find_replaced_settings(policy.model, policy.generation_settings) == {}


def test_the_first_token_still_learns():
    # A table's gradient is none at its `padding_idx`, which was where bos is now.
    policy = SEQ2SEQ.build(CODEC.with_backspace()).train()
    source = Source(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool))
    trace = policy.force(source, torch.tensor([[policy.vocabulary.bos, 1]]))
    trace.logits(torch.ones(1, 2, dtype=torch.bool)).logsumexp(1).sum().backward()
    table = policy.model.get_decoder().get_input_embeddings()
    read = table(torch.tensor([policy.vocabulary.bos, policy.vocabulary.pad])).sum(1)
    first, fill = (torch.autograd.grad(row, table.weight, retain_graph=True)[0] for row in read)
    assert first.count_nonzero() > 0
    assert fill.count_nonzero() == 0


def test_the_limit_is_that_of_the_codec():
    longer = replace(CODEC, limit=31).with_backspace()
    for settings in KINDS.values():
        policy = with_backspace(settings.build(CODEC), longer)
        source = Source(torch.tensor([[1]]), torch.tensor([[True]]))
        assert policy.limit(source).tolist() == [longer.limit]


def test_what_cannot_be_given_one():
    other = two_alphabets("+0123", "4567-", 5)
    with pytest.raises(ValueError, match=r"^the codec has other tokens than the policy$"):
        with_backspace(RECURRENT.build(CODEC), other)
    message = r"^a Chain cannot be given a backspace; make it with one$"
    with pytest.raises(ValueError, match=message):
        with_backspace(chain())


def adapters(model, **settings):
    """LoRA that does something."""
    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    settings = {"target_modules": "all-linear", "r": 2, "task_type": kind} | settings
    settings["fan_in_fan_out"] = isinstance(model, GPT2LMHeadModel)
    model.name_or_path = "base"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        found = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    return found


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_go_on_with_it(name):
    model, read = adapters(made(name)), tokens(2)
    before = scores(model, read)
    found, _ = add_backspace(model, TOKENIZER)
    assert type(found) is type(model)
    after = scores(found, read)
    torch.testing.assert_close(after[..., :SIZE], before)
    torch.testing.assert_close(after[..., SIZE], before.mean(-1), atol=1e-4, rtol=1e-4)
    rows = [n for n, w in found.named_parameters() if w.requires_grad and "lora_" not in n]
    tied = name in ("gpt2", "llama, tied", "bart")
    assert len(rows) == (1 if tied else 2)
    assert all("trainable_tokens_delta" in name for name in rows)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("name", ADAPTED)
def test_rows_that_adapters_train_are_merged(name):
    model, _ = add_backspace(adapters(made(name)), TOKENIZER)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "trainable_tokens" in key:
                weight.add_(1.0)
    expected = scores(model, tokens(2))
    torch.testing.assert_close(
        scores(model.merge_and_unload(), tokens(2)), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_that_cannot_train_a_row_are_refused():
    model = adapters(made("llama"), modules_to_save=["embed_tokens"])
    message = (
        "the adapters hold rows of tokens (trainable_token_indices, modules_to_save), and cannot "
        "be given those of another token, the backspace"
    )
    with raises(ValueError, message):
        add_backspace(model, TOKENIZER)

    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]
    )
    model = peft.get_peft_model(made("llama"), config)
    message = (
        "adapters of the kind IA3 cannot train the row of a new token, the backspace; LoRA can"
    )
    with raises(ValueError, message):
        add_backspace(model, TOKENIZER)
    assert model.get_base_model().config.vocab_size == SIZE, "it is left as it was"

    model = adapters(made("llama"))
    model.add_adapter("second", peft.LoraConfig(target_modules=["k_proj"]))
    message = (
        "the model has 2 sets of adapters; with a new token, the backspace, only one can be used"
    )
    with raises(ValueError, message):
        add_backspace(model, TOKENIZER)

    message = (
        "adapters of PhiForCausalLM cannot train the row of a new token, the backspace: its output "
        "has a bias, which peft would leave out"
    )
    with raises(ValueError, message):
        add_backspace(adapters(made("phi, with a bias")), TOKENIZER)

    model = made("bart")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    message = (
        "adapters of BartForConditionalGeneration cannot train the row of a new token, the "
        "backspace: its output is not tied to its embeddings"
    )
    with raises(ValueError, message):
        add_backspace(adapters(model), TOKENIZER)


def test_prompts_in_the_tokens_of_targets():
    rows = [{"text": "abcdef"}]
    tokens = {"target_tokens": "characters", "source_tokens": None}
    codec = replace(TextCodec.learn(rows, [], **tokens, context=6, block=8), limit=8)
    policies = []
    for each in (codec, codec.with_backspace()):
        torch.manual_seed(5)
        policies.append(CAUSAL.build(each))
    plain, policy = policies
    assert policy.vocabulary == codec.with_backspace().target
    assert policy.max_new_tokens == codec.with_backspace().limit
    after = batch_of(policy, codec)
    torch.testing.assert_close(after[:, :-1], batch_of(plain, codec))
    torch.testing.assert_close(after[:, -1], after[:, :-1].mean(1))


def test_a_policy_of_a_tokenizer_and_its_model():
    codec = TextCodec(TOKENIZER, limit=9)
    policy = adapt(made("gpt2"), codec.target, limit=9)
    found = with_backspace(policy, codec)
    assert found is policy
    assert policy.vocabulary == codec.with_backspace().target
    assert policy.project(torch.zeros(1, 16)).shape == (1, SIZE + 1)
