"""`model.generate` with a backspace: as a plain loop with a stack that recomputes every prefix."""

import pytest
import torch
from transformers import MaxTimeCriteria, StoppingCriteriaList, set_seed

from freerun.models.huggingface import BackspaceOutput, generate_with_backspace
from tests.helpers import chi_square, raises
from tests.models.models import ARCHITECTURES, tiny_model

PAD, EOS, START, OTHER, BACK = 0, 1, 2, 3, 12
ROWS = 13
LENGTHS = (3, 1, 4, 2)
MOST = 9
NAMES = ["gpt2", "llama", "qwen2", "gpt_neox", "opt", "bart"]


def model_of(name, **settings):
    """A model that often withdraws, and seldom ends."""
    model = tiny_model(name, rows=ROWS, **{"seed": 3 if name == "bart" else 4} | settings)
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight *= 0.5
        weight[BACK] = weight[5] + weight[6]
        weight[EOS] *= 0.5
    return model


def inputs_of(name, lengths=LENGTHS, seed=0):
    """Prompts padded on the left, or sources padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 12, (len(lengths), max(lengths)), generator=generator)
    places, counts = torch.arange(max(lengths)), torch.tensor(lengths)[:, None]
    causal = ARCHITECTURES[name].causal
    mask = places >= max(lengths) - counts if causal else places < counts
    return {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long()}


def generate(model, inputs, **settings):
    settings = {
        "custom_generate": generate_with_backspace,
        "backspace_token_id": BACK,
        "max_new_tokens": MOST,
        "do_sample": False,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
    } | settings
    return model.generate(**inputs, **settings)


def plain(model, prompt, eos=(EOS,), most=MOST):
    """Greedy actions of one row, what remains, and which actions withdrew a token."""
    text, actions, back, gone = [], [], [], [set()]
    while len(actions) < most and (not actions or actions[-1] not in eos):
        if model.config.is_encoder_decoder:
            read = torch.tensor([[START, *text]])
            scores = model(input_ids=prompt[None], decoder_input_ids=read).logits[0, -1].clone()
        else:
            read = torch.cat([prompt, torch.tensor(text, dtype=torch.long)])[None]
            scores = model(input_ids=read).logits[0, -1].clone()
        scores[sorted(gone[-1])] = -torch.inf
        scores[BACK] = scores[BACK] if text else -torch.inf
        actions.append(int(scores.argmax()))
        back.append(actions[-1] == BACK)
        if not back[-1]:
            text.append(actions[-1])
            gone.append(set())
        else:
            gone.pop()
            gone[-1].add(text.pop())
    return actions, text, back


def prompts_of(inputs):
    pairs = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
    return [ids[mask] for ids, mask in pairs]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_greedy_generation_is_the_plain_loop(name):
    model, inputs = model_of(name), inputs_of(name)
    found = generate(model, inputs, return_dict_in_generate=True)
    assert isinstance(found, BackspaceOutput)
    twins = [plain(model, prompt) for prompt in prompts_of(inputs)]
    assert any(any(back) for _, _, back in twins)
    masks = found.action_mask
    for row, (actions, text, back) in enumerate(twins):
        assert found.actions[row][masks[row]].tolist() == actions
        assert found.backtracked[row][masks[row]].tolist() == back
        start = inputs["input_ids"][row].tolist() if ARCHITECTURES[name].causal else [START]
        width = found.sequences.shape[1] - len(start) - len(text)
        assert found.sequences[row].tolist() == start + text + [PAD] * width
    assert not found.backtracked[~masks].any()
    assert (found.actions[~masks] == PAD).all()
    assert torch.equal(generate(model, inputs), found.sequences)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart"])
@torch.no_grad()
def test_without_withdrawals_it_is_what_generate_gives(name):
    model, inputs = tiny_model(name, rows=ROWS, dtype=torch.float32), inputs_of(name)
    with torch.no_grad():
        model.get_output_embeddings().weight[BACK] = 0
    plainly = generate(model, inputs, custom_generate=None, backspace_token_id=None)
    found = generate(model, inputs, return_dict_in_generate=True)
    assert not found.backtracked.any()
    assert torch.equal(found.sequences, plainly)


@torch.no_grad()
def test_any_of_several_eos_tokens_ends_a_row():
    model, inputs = model_of("llama", seed=2), inputs_of("llama", LENGTHS * 2, seed=4)
    several = [EOS, 7, 9]
    found = generate(model, inputs, eos_token_id=several, return_dict_in_generate=True)
    last = set()
    for row, prompt in enumerate(prompts_of(inputs)):
        actions, text, _ = plain(model, prompt, eos=several)
        assert found.actions[row][found.action_mask[row]].tolist() == actions
        width = inputs["input_ids"].shape[1]
        assert found.sequences[row, width : width + len(text)].tolist() == text
        last.add(actions[-1])
    assert len(last & set(several)) > 1


def test_samples_are_drawn_from_what_the_settings_leave():
    model = model_of("llama", dtype=torch.float32)
    inputs, draws = inputs_of("llama", (3,)), 2000
    settings = {"do_sample": True, "num_return_sequences": draws, "max_new_tokens": 1, "top_k": 4}
    settings |= {"temperature": 3.0, "top_p": 0.95}
    found = generate(model, inputs, seed=3, return_dict_in_generate=True, **settings)
    with torch.no_grad():
        scores = model(**inputs).logits[0, -1] / 3
    kept, tokens = scores.topk(4)
    probabilities = kept.softmax(-1)
    count = int((probabilities.cumsum(-1) - probabilities < 0.95).sum())
    probabilities = kept[:count].softmax(-1)
    drawn = found.actions[:, 0].bincount(minlength=ROWS)[tokens[:count]]
    assert count > 2
    assert int(drawn.sum()) == draws
    assert chi_square(drawn, probabilities * draws) > 0.01


def test_samples_follow_set_seed_or_a_seed():
    model, inputs = model_of("gpt2", dtype=torch.float32), inputs_of("gpt2")

    def drawn(**settings):
        return generate(model, inputs, do_sample=True, temperature=4.0, **settings).tolist()

    set_seed(1)
    first, second = drawn(), drawn()
    set_seed(1)
    assert drawn() == first
    assert first != second
    state = torch.get_rng_state()
    generate(model, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn(seed=5) == drawn(seed=5) != drawn(seed=6)


@torch.no_grad()
def test_several_samples_of_a_source_are_its_own():
    model, inputs = model_of("bart"), inputs_of("bart")
    settings = {"do_sample": True, "top_k": 1, "num_return_sequences": 3}
    found = generate(model, inputs, **settings)
    assert len(found) == 12
    groups = found.view(4, 3, -1)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))


@torch.no_grad()
def test_a_row_is_the_same_in_any_batch():
    model, inputs = model_of("qwen2"), inputs_of("qwen2")
    every = generate(model, inputs, return_dict_in_generate=True)
    for row, prompt in enumerate(prompts_of(inputs)):
        alone = generate(model, {"input_ids": prompt[None]}, return_dict_in_generate=True)
        mask = every.action_mask[row]
        assert alone.actions[0].tolist() == every.actions[row][mask].tolist()


@torch.no_grad()
def test_rows_end_where_the_model_has_no_more_positions():
    model = model_of("gpt2", n_positions=10)
    inputs = inputs_of("gpt2")
    found = generate(
        model, inputs, max_new_tokens=30, eos_token_id=None, return_dict_in_generate=True
    )
    assert found.action_mask.sum(1).tolist() == [8, 10, 7, 9]


@pytest.mark.parametrize("name", ["t5", "mistral"])
def test_models_that_cannot_withdraw_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{ARCHITECTURES[name].name}\w+ cannot withdraw tokens"):
        generate(tiny_model(name, rows=ROWS), inputs_of(name))


REFUSED = [
    ({"num_beams": 3}, "num_beams is 3; generate_with_backspace is greedy or samples, and cannot "
     "search with beams"),
    ({"output_scores": True, "return_dict_in_generate": True},
     "generate_with_backspace returns actions, and cannot return output_scores"),
    ({"repetition_penalty": 1.5}, "generate_with_backspace cannot apply "
     "RepetitionPenaltyLogitsProcessor: it may depend on withdrawn tokens"),
    ({"stopping_criteria": StoppingCriteriaList([MaxTimeCriteria(10.0)])},
     "generate_with_backspace cannot stop by MaxTimeCriteria"),
    ({"backspace_token_id": None},
     "pass backspace_token_id, the token that withdraws the last one"),
    ({"backspace_token_id": 13},
     "backspace_token_id is 13; it must be a token of the model, 0 to 12"),
    ({"backspace_token_id": EOS}, "backspace_token_id is 1, which is an eos token"),
    ({"seed": 3}, "seed has no effect on greedy generation; set do_sample"),
    ({"position_ids": torch.arange(4).expand(4, -1)},
     "generate_with_backspace counts positions itself; leave out position_ids"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda value: "-".join(value)[:20])
def test_what_cannot_be_honoured_is_refused(settings, message):
    with raises(ValueError, message):
        generate(tiny_model("llama", rows=ROWS), inputs_of("llama"), **settings)


def test_what_an_encoder_decoder_cannot_be_given_is_refused():
    model, inputs = tiny_model("bart", rows=ROWS), inputs_of("bart")
    message = (
        "generate_with_backspace starts decoders with one token, the same for every row; "
        "decoder_input_ids cannot be given"
    )
    with raises(ValueError, message):
        generate(model, inputs, decoder_input_ids=torch.full((4, 2), START))
    left = {name: values.flip(1) for name, values in inputs.items()}
    message = "generate_with_backspace needs sources that are padded on the right"
    with pytest.raises(ValueError, match=f"^{message}$"):
        generate(model, left)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_model_with_adapters_generates_with_them():
    peft = pytest.importorskip("peft")
    model, inputs = model_of("gpt2", dtype=torch.float32), inputs_of("gpt2")
    before = generate(model, inputs)
    config = peft.LoraConfig(
        target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True
    )
    adapted = peft.get_peft_model(model, config).eval()
    found = generate(adapted, inputs)
    assert found.tolist() != before.tolist()
    assert torch.equal(generate(adapted.merge_and_unload(), inputs), found)


def test_the_model_stays_as_it_was():
    model, inputs = model_of("gpt2", dropout=0.5, dtype=torch.float32), inputs_of("gpt2")
    expected = generate(model, inputs)
    model.train()
    assert torch.equal(generate(model, inputs), expected)
    assert all(module.training for module in model.modules())
