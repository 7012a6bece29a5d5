"""Encoder-decoders that read images and sounds: their scores, outputs and search are right."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationMixin

from freerun.batch import Source
from freerun.decoding import beam_search, greedy
from freerun.methods import MLE, Clock
from freerun.models.adapters import add_lora
from freerun.models.huggingface import MediaPolicy, adapt
from freerun.testing import PolicyContract
from tests.helpers import close, searnn, whole
from tests.methods.test_searnn_twin import check_loss, check_search
from tests.models.media import (
    MODELS,
    WORDS,
    media_batch,
    media_source,
    tiny_media,
    tiny_media_model,
)
from tests.twins import twin_beam

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


class TestContract(PolicyContract):
    tolerance = 1e-5

    @pytest.fixture(
        scope="class",
        params=[("whisper", (5, 3)), ("vit-gpt2", ()), ("speech2text", (5,))],
        ids=lambda kind: kind[0],
    )
    @classmethod
    def policy(cls, request):
        name, prefix = request.param
        return tiny_media(name, prefix=prefix)

    @pytest.fixture(scope="class")
    @classmethod
    def batch(cls, policy):
        return media_batch(policy)


def own_scores(policy, source, row, decoder_inputs):
    """The scores of the model's own forward pass of one row, without padding."""
    length = int(source.lengths[row])
    one = Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
    given = policy.name_inputs(one)
    found = policy.model(**given, decoder_input_ids=decoder_inputs, use_cache=False)
    return found.logits[0, :, : WORDS.actions]


@pytest.mark.parametrize("prefix", [(), (5,), (5, 3)])
def test_scores_are_those_of_the_model_after_its_prefix(name, prefix):
    policy = tiny_media(name, prefix=prefix)
    batch = media_batch(policy)
    inputs = batch.inputs(WORDS.bos)
    everywhere = torch.ones_like(batch.mask)
    found = policy.force(batch.source, inputs).logits(everywhere).unflatten(0, inputs.shape)
    for row in range(3):
        read = torch.cat([torch.tensor(prefix, dtype=torch.long), inputs[row]])[None]
        expected = own_scores(policy, batch.source, row, read)[len(prefix) :]
        cells = batch.mask[row]
        torch.testing.assert_close(found[row][cells], expected[cells], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("prefix", [(), (5, 3)])
def test_greedy_decoding_is_what_generate_writes(name, prefix):
    policy = tiny_media(name, prefix=prefix, seed=1)
    source = media_source(policy)
    found = greedy(policy, source)
    for row in range(3):
        length = int(source.lengths[row])
        one = Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
        written = GenerationMixin.generate(  # Whisper's own reads the language first
            policy.model,
            **policy.name_inputs(one),
            decoder_input_ids=torch.tensor([[*prefix, WORDS.bos]]),
            generation_config=policy.generation_settings,
        )
        own = written[0, len(prefix) + 1 :].tolist()
        own = own[: own.index(WORDS.eos)] if WORDS.eos in own else own
        assert found.lists(WORDS.eos)[row] == own


@pytest.mark.parametrize("prefix", [(), (5, 3)])
@torch.no_grad()
def test_the_loss_is_that_of_the_model_with_an_ignored_prefix(name, prefix):
    policy = tiny_media(name, prefix=prefix)
    batch = media_batch(policy)
    found = MLE().loss(policy, batch, Clock(0, 1, 0))
    assert found.count == batch.mask.sum()
    total = 0.0
    for row, length in enumerate(batch.lengths.tolist()):
        target = batch.target[row, :length]
        read = torch.tensor([*prefix, WORDS.bos, *target[:-1].tolist()])[None]
        labels = torch.cat([torch.full((len(prefix),), -100), target])
        scores = own_scores(policy, batch.source, row, read)
        total += float(cross_entropy(scores, labels, reduction="sum"))  # -100 is ignored
    assert float(found.total) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", ["vit-trocr", "speech2text"])
def test_beams_are_those_of_a_plain_search(name):
    policy = tiny_media(name, prefix=(5,), seed=1)
    source = media_source(policy)
    found = beam_search(policy, source, size=3)
    for row in range(3):
        alone = source.select(torch.tensor([row]))
        tokens, value = twin_beam(policy, alone, 3, 0.0, policy.max_new_tokens)
        assert whole(found, row) == tokens
        assert float(found.log_probs[row]) == pytest.approx(value, abs=1e-4)


def test_lora_trains_adapters_alone(name):
    policy = adapt(add_lora(tiny_media_model(name), 2, None), WORDS, limit=5)
    assert isinstance(policy, MediaPolicy)
    batch, before = media_batch(policy), tiny_media(name, limit=5)
    inputs = batch.inputs(WORDS.bos)
    close(
        policy.force(batch.source, inputs).logits(batch.mask),
        before.force(batch.source, inputs).logits(batch.mask),
        1e-5,
    )
    MLE().loss(policy.train(), batch, Clock(0, 1, 0)).total.backward()
    trained = {n for n, weight in policy.named_parameters() if weight.grad is not None}
    assert trained
    assert all("lora_" in n for n in trained)


@pytest.mark.parametrize("name", ["vit-gpt2", "whisper", "speech2text"])
def test_searnn_equals_its_twin(name):
    policy = tiny_media(name, prefix=(5,))
    method, batch = searnn(cost="edit_distance", roll_in="learned"), media_batch(policy)
    check_search(method, policy, batch)
    check_loss(method, policy, batch, tolerance=1e-5)


def test_whispers_own_generate_writes_the_same_after_training():
    """The saved settings of generation have the language, the task and no timestamps."""
    model = tiny_media_model("whisper", seed=2)
    model.generation_config.update(
        is_multilingual=True, lang_to_id={"<|en|>": 5}, task_to_id={"transcribe": 3},
        no_timestamps_token_id=6, max_length=16, forced_decoder_ids=None,
    )  # fmt: skip
    words = replace(WORDS, bos=6)
    policy = adapt(model, words, limit=5, prefix=(2, 5, 3))
    source, settings = media_source(policy), policy.generation_settings
    assert settings.decoder_start_token_id == 2
    written = model.generate(source.values, generation_config=settings)
    rows = [row[4:] if row[:4] == [2, 5, 3, 6] else row for row in written.tolist()]
    ends = [row.index(1) if 1 in row else len(row) for row in rows]
    expected = [row[:end] for row, end in zip(rows, ends, strict=True)]
    assert greedy(policy, source).lists(words.eos) == expected
