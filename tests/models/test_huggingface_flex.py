"""FlexAttention, which is compiled: slow."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from freerun.batch import Source
from freerun.models.huggingface import adapt
from freerun.vocabulary import Vocabulary

WORDS = Vocabulary.build("abcdefg", eos=True).with_backspace()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_trees_are_read_by_flex_attention():
    """As by eager attention, where this machine can compile it."""
    policies = []
    for name in ("eager", "flex_attention"):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=WORDS.size,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            attn_implementation=name,
        )
        try:
            policies.append(adapt(LlamaForCausalLM(config), WORDS, limit=8))
        except ValueError as error:
            assert name == "flex_attention"
            pytest.skip(f"FlexAttention cannot be compiled here: {str(error)[:200]}")
    assert all(policy.reads_trees for policy in policies)
    source = Source(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]]) > 0)
    tokens = torch.tensor([[WORDS.bos, 1, 2, 3], [WORDS.bos, 4, 5, 6]])
    parents = torch.tensor([[-1, 0, 0, 2], [-1, 0, 1, 1]])
    cells = torch.ones_like(tokens).bool()
    scores = [policy.force(source, tokens, parents).logits(cells) for policy in policies]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-4)
