"""The recurrent policy against numbers computed by hand from its equations."""

from math import exp, tanh

import pytest
import torch

from freerun.batch import Source
from freerun.models import RecurrentConfig
from freerun.models.recurrent.attention import Attention
from tests.helpers import close, tiny_policy


def sigmoid(x):
    return 1 / (1 + exp(-x))


def gru(x, h, w_read, w_hidden, b_read, b_hidden):
    """One unit of Cho et al. 2014, with the two biases of torch."""
    r, z, n = range(3)
    reset = sigmoid(w_read[r] * x + b_read[r] + w_hidden[r] * h + b_hidden[r])
    update = sigmoid(w_read[z] * x + b_read[z] + w_hidden[z] * h + b_hidden[z])
    new = tanh(w_read[n] * x + b_read[n] + reset * (w_hidden[n] * h + b_hidden[n]))
    return (1 - update) * new + update * h


def test_one_unit_by_hand():
    """A GRU of one unit that reads two numbers and writes two letters."""
    policy = tiny_policy(2, eos=False, source="real", hidden_size=1, embedding_size=1)
    policy.encoder.layers = torch.nn.GRU(1, 1, batch_first=True).double()
    policy.encoder.width = 1
    weights = {
        "weight_ih_l0": [0.5, -0.3, 0.8],
        "weight_hh_l0": [0.1, 0.7, -0.6],
        "bias_ih_l0": [0.2, 0.0, -0.1],
        "bias_hh_l0": [-0.4, 0.3, 0.05],
    }
    with torch.no_grad():
        for layer in (policy.encoder.layers, policy.decoder.layers[0]):
            for key, values in weights.items():
                parameter = getattr(layer, key)
                parameter.copy_(torch.tensor(values).view_as(parameter))
        policy.embedding.weight.copy_(torch.tensor([[1.0], [-2.0], [0.5], [9.0]]))
        policy.output.weight.copy_(torch.tensor([[3.0], [-1.0]]))
        policy.output.bias.copy_(torch.tensor([0.1, 0.2]))
    source = Source(torch.tensor([[[0.4], [-1.5]]]).double(), torch.ones(1, 2, dtype=torch.bool))
    found = policy.force(source, torch.tensor([[2, 1]])).logits(source.mask)

    numbers = [torch.tensor(values).tolist() for values in weights.values()]  # as float32 has them
    hidden = gru(-1.5, gru(0.4000000059604645, 0.0, *numbers), *numbers)
    expected = []
    for embedded in (0.5, -2.0):  # bos, then letter 1
        hidden = gru(embedded, hidden, *numbers)
        expected.append([3 * hidden + 0.10000000149011612, -hidden + 0.20000000298023224])
    close(found.detach(), torch.tensor(expected, dtype=torch.float64), 1e-15)


def attend(kind, weights):
    """A one-unit attention with `weights`, asked at query 0.5 for values 1, -1 and a pad."""
    config = RecurrentConfig(hidden_size=1, attention=kind)
    attention = Attention(config).double()
    attention.load_state_dict({k: torch.tensor(v).double() for k, v in weights.items()})
    mask = torch.tensor([[True, True, False]])
    memory = attention.make_memory(torch.tensor([[[1.0], [-1.0], [7.0]]]).double(), mask)
    query = torch.tensor([[[0.5]]]).double()
    return float(attention(query, torch.tensor([[1]]), memory).detach())


def test_general_attention_by_hand():
    found = attend("general", {"key.weight": [[2.0]], "combine.weight": [[0.5, 0.25]]})
    share = exp(0.5 * 2) / (exp(0.5 * 2) + exp(-0.5 * 2))
    assert found == pytest.approx(tanh(0.5 * (share - (1 - share)) + 0.25 * 0.5), abs=1e-15)


def test_additive_attention_by_hand():
    weights = {
        "key.weight": [[2.0]],
        "query.weight": [[3.0]],
        "query.bias": [-1.0],
        "weight.weight": [[1.5]],
        "combine.weight": [[0.5, 0.25]],
    }
    scores = [exp(1.5 * tanh(3 * 0.5 - 1 + 2 * value)) for value in (1, -1)]
    context = (scores[0] - scores[1]) / sum(scores)
    assert attend("additive", weights) == pytest.approx(tanh(0.5 * context + 0.125), abs=1e-15)


def test_aligned_attention_by_hand():
    found = attend("aligned", {"combine.weight": [[0.5, 0.25]]})
    assert found == pytest.approx(tanh(0.5 * -1 + 0.25 * 0.5), abs=1e-15)


def test_factors_are_summed_each_from_its_own_table():
    policy = tiny_policy(source="factors")
    values = torch.tensor([[[4, 2, 3], [2, 2, 2]]])
    table = policy.encoder.embedding.weight
    found = policy.encoder.embed_source(Source(values, torch.ones(1, 2, dtype=torch.bool)))
    close(found[0, 0], table[4] + table[5 + 2] + table[5 + 3 + 3])
    close(found[0, 1], table[2] + table[5 + 2] + table[5 + 3 + 2])
