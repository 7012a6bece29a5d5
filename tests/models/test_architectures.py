"""Architectures of transformers as policies: a few of each kind; all of them by hand.

python -m tests.models.architectures --markdown table.md
"""

import pytest

from tests.models.architectures import try_architecture

CASES = [
    ("gemma4", "causal", "right", False),
    ("gpt_neo", "causal", "right", False),
    ("llama4_text", "causal", "right", False),
    ("mistral", "causal", "right", False),
    ("deepseek_v3", "causal", "right", True),
    ("codegen", "causal", "right", True),
    ("roberta", "causal", "right", True),
    ("rembert", "causal", "right", True),
    ("roformer", "causal", "right", True),
    ("jamba", "causal", "refused", False),
    ("rwkv", "causal", "refused", False),
    ("encoder-decoder", "seq2seq", "right", True),
    ("led", "seq2seq", "right", True),
    ("m2m_100", "seq2seq", "right", True),
    ("pegasus_x", "seq2seq", "right", True),
    ("switch_transformers", "seq2seq", "right", False),
    ("t5gemma2", "seq2seq", "right", False),
    ("umt5", "seq2seq", "right", False),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "kind", "verdict", "trees"), CASES)
def test_an_architecture(name, kind, verdict, trees):
    """Rows, steps, forks, greedy decoding, trees and training."""
    result = try_architecture(name, kind)
    assert (result.verdict, result.trees) == (verdict, trees), result.why
    if verdict == "refused":
        assert "keep a sum over all tokens" in result.why
