"""Chat templates are programs of others: they are stopped, whatever they do."""

import resource
import sys
import time

import pytest

from freerun.data import DataError, TextCodec, chat_templates
from tests.tasks.tiny_tokenizers import CHAT, word_tokenizer

TURNS = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}]
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

DOUBLE = (
    "{% set n = namespace(a='a') %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}"
)


def encode(template, **row):
    codec = TextCodec(word_tokenizer(chat_template=template))
    return codec.encode([{"messages": TURNS, **row}])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "takes over 2 seconds"),
        (f"{{% macro a() %}}{LOOP}{{% endmacro %}}{{{{ a() }}}}", "takes over 2 seconds"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "refuses it"),
        ("{{ 'a' * 10000001 }}", "writes 10000001 characters; the limit is 10000000"),
        ("{{ 'a' * (10 ** 15) }}", "needs too much memory"),
        ("{{ ('a' * 10 ** 9) | length }}", "needs too much memory"),
        ("{{ '%999999999d' % 1 }}", "needs too much memory"),
        ("{{ ([1] * 10 ** 8)[0] }}", "needs too much memory"),
        (DOUBLE, "needs too much memory"),
        ("{{ 1 / 0 }}", "refuses it"),
        ("{{ messages[7].content.x }}", "refuses it"),
        ("{{ ''.__class__.__mro__ }}", "refuses it"),
    ],
)
def test_templates_that_never_end_or_write_too_much(monkeypatch, template, reason):
    monkeypatch.setattr(chat_templates, "SECONDS", 2.0)
    before = resource.getrlimit(resource.RLIMIT_AS)
    start = time.monotonic()
    with pytest.raises(DataError, match="the data, row 0: the chat template ") as caught:
        encode(template)
    assert reason in str(caught.value)
    assert time.monotonic() - start < 10
    assert sys.gettrace() is None
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize("value", ["2 </s>", [{"type": "text", "text": "</s>"}]])
def test_messages_that_spell_a_special_token_are_refused(value):
    turns = [TURNS[0], {"role": "assistant", "content": value}]
    message = "row 0: a message has '</s>', a special token, which cannot be distinguished"
    with pytest.raises(DataError, match=message):
        encode(CHAT, messages=turns)
