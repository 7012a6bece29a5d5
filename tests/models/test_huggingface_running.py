"""How Hugging Face policies run: limits, modes, checkpointing, precision, hidden settings."""

from inspect import signature

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from freerun.batch import Source
from freerun.decoding import beam_search, decode_with, greedy, sample
from freerun.decoding.loop import CHECK_EVERY
from tests.helpers import close, gradients, written
from tests.models.models import (
    ARCHITECTURES,
    PLACES,
    plain_scores,
    text_batch,
    text_source,
    tiny_adapted,
)

NAMES = ["gpt2", "mistral", "t5", "bart"]
ABSOLUTE = [
    pytest.param(name, marks=[] if name in ("gpt2", "opt", "bart") else pytest.mark.slow)
    for name, found in ARCHITECTURES.items()
    if found.places
]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def decoders(policy, source):
    ids = torch.arange(len(source.lengths))
    yield greedy(policy, source)
    yield sample(policy, source, ids=ids, seed=3)
    yield beam_search(policy, source, size=3)


@pytest.mark.parametrize("name", ["gpt2", "bart"])
@torch.no_grad()
def test_the_cache_has_the_name_that_the_decoder_gives_it(name):
    """Transformers calls it `past_key_values` before 5.24, and `cache` from then on."""
    policy = tiny_adapted(name)
    source = text_source(policy, (3, 5))
    wanted = written(greedy(policy, source))
    plain, seen = type(policy.decoder), []
    own = "cache" if "cache" in signature(plain.forward).parameters else "past_key_values"

    def forward(self, cache=None, **kwargs):
        seen.append(cache)
        return plain.forward(self, **{own: cache}, **kwargs)

    renamed = tiny_adapted(name)
    renamed.load_state_dict(policy.state_dict())
    vars(renamed).pop("_cache_name", None)  # the check of the model has looked it up
    renamed.decoder.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    assert written(greedy(renamed, source)) == wanted
    assert seen
    assert all(cache is not None for cache in seen)


# Limits


@pytest.mark.parametrize(("shared", "look"), [(True, 1), (False, 1), (True, 8)])
@pytest.mark.parametrize("name", ABSOLUTE)
@torch.no_grad()
def test_the_limit_is_what_is_left_of_the_positions(name, shared, look, monkeypatch):
    """A row may write to the last of them, and rows that do are no trouble for those that go on."""
    monkeypatch.setitem(CHECK_EVERY, "cpu", look)
    policy = tiny_adapted(name, shared=shared, limit=2 * PLACES)
    lengths = (PLACES - 3, 1, PLACES - 8, 2, 3, PLACES - 4)
    source = text_source(policy, lengths)
    causal, eos = ARCHITECTURES[name].causal, policy.vocabulary.eos
    # Every token that is written was scored by one that was read, at a position.
    left = [PLACES - length + shared if causal else PLACES for length in lengths]
    assert policy.limit(source).tolist() == left

    def choose(scores, rows, cell):
        """Anything but eos."""
        scores = scores.index_fill(1, torch.tensor([eos]), -torch.inf)
        return scores.argmax(-1), torch.zeros(len(scores))

    rows = written(decode_with(policy, source, choose))
    assert [len(tokens) for tokens in rows] == left
    for row, tokens in enumerate(rows):
        inputs = torch.tensor([[policy.vocabulary.bos, *tokens[:-1]]])
        alone = source.select(torch.tensor([row]))
        scores = plain_scores(policy, alone, inputs)
        assert choose(scores, None, None)[0].tolist() == tokens
    beam_search(policy, source, size=2)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_beyond_the_positions_scores_are_not_numbers(name):
    policy = tiny_adapted(name)
    source = text_source(policy, (5, 2))
    state, ends = policy.start(source), [PLACES - 4, PLACES - 1]
    for cell in range(PLACES + 2):
        scores, state = policy.step(state, torch.tensor([3, 4]))
        for row, end in enumerate(ends if name == "gpt2" else [PLACES] * 2):
            assert bool(scores[row].isnan().all()) == (cell >= end)
            assert bool(scores[row].isnan().any()) == (cell >= end)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ABSOLUTE)
def test_a_source_that_is_too_long_is_refused(name, shared):
    """Its padding may be as long as it likes."""
    policy, causal = tiny_adapted(name, shared=shared), ARCHITECTURES[name].causal
    fits = PLACES if shared or not causal else PLACES - 1
    source = text_source(policy, (3, fits))
    wide = Source(F.pad(source.values, (0, 9)), F.pad(source.mask, (0, 9)))
    inputs = torch.full((2, 1), policy.vocabulary.bos)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    scores = [policy.force(some, inputs).logits(everywhere) for some in (source, wide)]
    close(*scores, ARCHITECTURES[name].tolerance)
    close(policy.step(policy.start(wide), inputs[:, 0])[0], scores[0], 2e-5)
    assert policy.limit(wide)[1] == (1 if causal else 6)
    source = text_source(policy, (3, fits + 1, 2))
    with pytest.raises(ValueError, match=rf"row 1 has {fits + 1} tokens.* {PLACES} positions"):
        greedy(policy, source)
    inputs = torch.full((3, 1), policy.vocabulary.bos)
    with pytest.raises(ValueError, match=rf"row 1 .* {PLACES} positions of the model; shorten"):
        policy.force(source, inputs).logits(torch.ones_like(inputs, dtype=torch.bool))


@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_a_target_that_is_too_long_is_refused(name):
    """In training, too: nothing is scored at a position that there is not."""
    policy = tiny_adapted(name)
    batch = text_batch(policy, targets=(2, PLACES + 1, 1, 3))
    inputs = batch.inputs(policy.vocabulary.bos)
    with pytest.raises(ValueError, match=f"row 1 .*{PLACES} positions"):
        policy.force(batch.source, inputs).logits(batch.mask)
    batch = text_batch(policy, lengths=(3, 1, 4, 2), targets=(2, PLACES, 1, 3))
    inputs = batch.inputs(policy.vocabulary.bos)
    assert policy.force(batch.source, inputs).logits(batch.mask).isfinite().all()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_empty_prompt_is_refused(name):
    policy = tiny_adapted(name)
    source = text_source(policy, (3, 0, 2))
    with pytest.raises(ValueError, match="the prompt of row 1 is empty; it needs a token"):
        policy.start(source)
    own = tiny_adapted(name, shared=False)
    source = text_source(own, (3, 0, 2))
    inputs = torch.tensor([[own.vocabulary.bos, 2]]).expand(3, -1)
    found = own.force(source, inputs).logits(torch.ones_like(inputs, dtype=torch.bool))
    read = torch.tensor([[own.vocabulary.bos, 2]])
    expected = own.model(input_ids=read).logits[0, :, : own.vocabulary.actions]
    close(found[2:4], expected, ARCHITECTURES[name].tolerance)


# What is hidden in models


def test_generation_settings_do_not_leak(name):
    """Nor those that a model was saved with."""
    policy = tiny_adapted(name, limit=9)
    source = text_source(policy)
    before = [written(decoded) for decoded in decoders(policy, source)]
    hidden = policy.model.generation_config
    hidden.update(do_sample=True, temperature=0.3, top_k=1, top_p=0.1, repetition_penalty=9.0)
    hidden.update(forced_bos_token_id=7, forced_eos_token_id=8, suppress_tokens=[3, 4, 5])
    hidden.update(no_repeat_ngram_size=1, min_length=9, max_length=2, num_beams=4, eos_token_id=6)
    hidden.update(use_cache=False, cache_implementation="static", bad_words_ids=[[9]])
    policy.model.config.use_cache = False
    assert [written(decoded) for decoded in decoders(policy, source)] == before


@pytest.mark.parametrize("name", [*NAMES, "gemma3"])
def test_rows_beyond_the_vocabulary_are_never_written(name):
    policy = tiny_adapted(name)
    source, table = text_source(policy), policy.model.get_input_embeddings().weight
    actions = policy.vocabulary.actions
    assert len(table) > policy.vocabulary.size
    with torch.no_grad():
        before = greedy(policy, source, keep_scores=True)
        for weight in {table, policy.model.get_output_embeddings().weight}:
            weight[actions:] = 100.0
        scores = plain_scores(
            policy,
            source.select(torch.tensor([0])),
            torch.tensor([[policy.vocabulary.bos]]),
        )
        assert scores.shape == (1, actions)
        for decoded in decoders(policy, source):
            assert bool((decoded.tokens < actions).all())
        after = greedy(policy, source, keep_scores=True)
    assert torch.equal(before.scores, after.scores)


# Modes


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_on_while_training_only(name):
    policy = tiny_adapted(name, dropout=0.5)
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)

    def scores():
        return policy.force(batch.source, inputs).logits(batch.mask)

    def step():
        return policy.step(policy.start(batch.source), inputs[:, 0])[0]

    assert torch.equal(scores(), scores())
    assert torch.equal(step(), step())
    policy.train()
    assert not torch.equal(scores(), scores())
    assert not torch.equal(step(), step())


# Checkpointing


def widths(policy):
    """The number of positions of every pass of the decoder, as they are made."""
    seen, decoder = [], policy.model.get_decoder()

    def note(module, arguments, settings):
        if "forward" in vars(module):
            return  # it only stands in for one, for a head of its own
        read = settings.get("input_ids")
        seen.append((settings["inputs_embeds"] if read is None else read).shape[1])

    decoder.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def test_checkpointing_leaves_decoding_its_cache(name):
    policy = tiny_adapted(name, limit=9)
    source = text_source(policy)
    before = [written(decoded) for decoded in decoders(policy, source)]
    policy.model.activation_checkpointing_enable()
    policy.train()
    seen = widths(policy)
    assert [written(decoded) for decoded in decoders(policy, source)] == before
    prompts = 3 * ARCHITECTURES[name].causal  # each decoder reads them in one pass
    assert len([width for width in seen if width > 1]) == prompts
    assert all(module.training for module in policy.modules())


def test_checkpointing_changes_no_gradient(name):
    policy = tiny_adapted(name)
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)

    def found():
        loss = policy.force(batch.source, inputs).logits(batch.mask).square().sum()
        return loss, gradients(policy, loss)

    policy.train()
    before = found()
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    close(found(), before, 1e-9)


def test_steps_with_gradient_under_checkpointing_are_refused(name):
    """They need the cache; passes do not."""
    policy = tiny_adapted(name)
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    state = policy.start(batch.source)
    policy.step(state, inputs[:, 0])  # in evaluation mode nothing is checkpointed
    policy.train()
    with pytest.raises(ValueError, match="passes"):
        policy.step(state, inputs[:, 0])
    with pytest.raises(ValueError, match="passes"):
        policy.step(policy.start(batch.source), inputs[:, 0])
    policy.model.activation_checkpointing_disable()
    policy.step(policy.start(batch.source), inputs[:, 0])


# Precision


@pytest.mark.kernels
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bfloat16(name, attention):
    """Every path runs, and scores as in double precision up to a few digits."""
    exact = tiny_adapted(name)
    policy = tiny_adapted(name, dtype=torch.bfloat16, attention=attention)
    assert (policy.dtype, policy.device.type) == (torch.bfloat16, "cpu")
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    expected = exact.force(batch.source, inputs).logits(batch.mask)
    scale = float(expected.detach().abs().max())
    trace = policy.force(batch.source, inputs)
    scores = trace.logits(batch.mask)
    close(scores.double(), expected, 0.2 * scale)
    state, steps = policy.start(batch.source), []
    for cell in range(inputs.shape[1]):
        found, state = policy.step(state, inputs[:, cell])
        steps.append(found)
    close(torch.stack(steps, 1)[batch.mask].double(), expected, 0.2 * scale)
    forked, _ = policy.step(trace.fork(torch.tensor([3, 1]), torch.tensor([1, 0])), inputs[:2, 1])
    assert forked.isfinite().all()
    scores.float().sum().backward()
    list(decoders(policy, batch.source))
    if ARCHITECTURES[name].trees:
        tree = policy.force(batch.source, inputs, torch.full_like(inputs, -1))
        assert tree.logits(batch.mask).isfinite().all()


@pytest.mark.kernels
@pytest.mark.parametrize("name", NAMES)
def test_autocast(name):
    exact, policy = tiny_adapted(name), tiny_adapted(name, dtype=torch.float32)
    batch = text_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    expected = exact.force(batch.source, inputs).logits(batch.mask)
    with torch.autocast("cpu", torch.bfloat16):
        trace = policy.force(batch.source, inputs)
        scores = trace.logits(batch.mask)
        policy.step(trace.fork(torch.tensor([0]), torch.tensor([1])), torch.tensor([0]))
        embedded = policy.force(batch.source, policy.embed(inputs)).logits(batch.mask)
        list(decoders(policy, batch.source))
    scale = float(expected.detach().abs().max())
    close(scores.double(), expected, 0.2 * scale)
    close(embedded.double(), expected, 0.2 * scale)
    scores.float().sum().backward()


# Saving


def test_what_is_saved_is_the_model(name, tmp_path):
    """It loads in plain transformers, and scores the same."""
    policy = tiny_adapted(name)
    policy.save_pretrained(str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    kind = AutoModelForCausalLM if ARCHITECTURES[name].causal else AutoModelForSeq2SeqLM
    loaded = kind.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager")
    source = Source(torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool))
    inputs = torch.tensor([[2, 7, 9]])
    expected = plain_scores(policy, source, inputs)
    policy.model = loaded
    found = plain_scores(policy, source, inputs)
    close(found, expected, ARCHITECTURES[name].tolerance)
