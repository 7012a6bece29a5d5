"""BLEU and chrF: sacrebleu's own figures, its tokenizers by script, short references."""

import pytest
import sacrebleu
from sacrebleu.metrics import BLEU

from freerun.metrics import METRICS, bleu, check_metrics, find_metrics
from freerun.metrics.translations import detect_tokenizer
from freerun.settings import SettingError
from tests.metrics.test_scoring import text_codec


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (["The cat sat."], "13a"),
        (["Кошка села на коврик.", "猫"], "13a"),
        (["今天天气很好。", "I like 北京烤鸭很多很多很多。"], "zh"),
        (["猫がマットの上に座った。"], "ja-mecab or char"),
        (["ﾃｽﾄです。"], "ja-mecab or char"),
        (["東京都庁舎展望室営業時間変更の案内"], "ja-mecab or char"),
        (["我用 GPT-4 model 写 code 了今天"], "zh"),
        (["Open the file 打开 and save it"], "13a"),
        (["ꦲꦤꦕꦫꦏ"], "char"),
        (["고양이가 매트 위에 앉았다."], "ko-mecab or 13a"),
        (["แมวนั่งบนเสื่อ"], "char"),
        (["ແມວນັ່ງຢູ່ເທິງເສື່ອ"], "char"),
        (["ဖျာပေါ်မှာ"], "char"),
        (["ឆ្មាអង្គុយ"], "char"),
        (["हिन्दी में एक वाक्य"], "13a"),
        ([""], "13a"),
        ([], "13a"),
        (["12 + 3 = 15"], "13a"),
    ],
)
def test_the_tokenizer_follows_the_script_of_the_references(texts, tokenizer):
    assert detect_tokenizer(texts) in tokenizer.split(" or ")


def test_one_other_full_stop_does_not_cost_a_chinese_sentence_everything():
    outputs, references = ["今天天气很好，我们去公园。"], ["今天天气很好，我们去公园．"]
    expected = BLEU(tokenize="zh").corpus_score(outputs, [references]).score
    assert bleu(outputs, references) == pytest.approx(expected)
    assert expected > 70
    assert bleu(outputs, references, tokenize="13a") < 1


def test_references_with_four_tokens_have_sacrebleus_default():
    outputs = ["a b c d e", "x", "the cat"]
    references = ["a b c e d", "x y", "the cat sat on"]
    expected = BLEU().corpus_score(outputs, [references]).score
    assert bleu(outputs, references) == expected
    # Outputs alone do not change how they are scored.
    assert bleu(["a b c", "x", "the cat"], references) == 0


def test_references_under_four_tokens():
    assert bleu(["red one", "two"], ["red one", "two"]) == 100
    # Of 3 words 2 match, of 1 pair none, which is smoothed to a half.
    assert bleu(["red one", "two"], ["red on", "two"]) == pytest.approx(
        (2 / 3 * 1 / 2) ** 0.5 * 100
    )
    assert bleu(["red one two three"], ["red one"]) < 50


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bleu:tokenize=zhh", "metric 'bleu': tokenize is 'zhh'; it must be auto, 13a, char, "),
        ("bleu:tokenize=ko-mecab", "metric 'bleu': tokenize=ko-mecab cannot be used ("),
    ],
)
def test_tokenizers_that_cannot_be_used_are_refused(spec, message):
    with pytest.raises(SettingError) as caught:
        check_metrics(find_metrics([spec]), text_codec())
    assert str(caught.value).startswith(message)


def test_ter_counts_edits_and_moves_of_phrases():
    ter = METRICS["ter"]
    # A phrase of two words is moved: one edit for four words.
    assert ter(["c d a b"], ["a b c d"]) == pytest.approx(25.0)
    assert ter(["a x", ""], ["a b", "c"]) == pytest.approx(100 * 2 / 3)
    assert ter(["A"], ["a"]) == 0
    assert ter(["A"], ["a"], lowercase=False) == 100
    assert "TER" in ter.get_signature(["a"])


def test_chrf_with_words_is_another_value():
    found = [METRICS["chrf"](["a cat"], ["the cat"], word_order=order) for order in (0, 2)]
    expected = [
        sacrebleu.metrics.CHRF(word_order=order).corpus_score(["a cat"], [["the cat"]]).score
        for order in (0, 2)
    ]
    assert found == pytest.approx(expected)


def test_rouge():
    pytest.importorskip("rouge_score")
    rouge = METRICS["rouge"]
    # The longest common subsequence has 2 of 3 words of the output, and 2 of 4 of the reference.
    assert rouge(["the cat sat"], ["the big cat ran"]) == pytest.approx(2 * 2 / 7)
    assert rouge(["the cat"], ["the cat sat"], kind="rouge2") == pytest.approx(2 / 3)
