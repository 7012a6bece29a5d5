"""The report of a comparison as a page: what is written, and what a browser shows of it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from freerun import report
from freerun.evaluation import estimate_difference
from freerun.report.comparison import DISTANCE, NO_CONTROL, NO_OUTPUTS, write_page
from freerun.report.examples import choose_groups, mark_differences
from freerun.report.page import Piece
from freerun.report.words import describe_comparison
from tests.report.browser import look

EVIL = "<script>alerted = 1</script><img src=x onerror='parent.alerted=1'>\"'&$\\bad$"
ROWS = [
    # source, reference, errors of mle and of the two others
    ("helo", "hello", (3, 1, 2)),
    ("wrld", "world", (1, 4, 1)),
    ("cat", "cat", (0, 0, 0)),
    (EVIL, f"{EVIL} ref", (9, 9, 9)),
]


def make_outputs(results):
    return {
        name: [
            {"source": source, "reference": reference, "errors": errors[i],
             "output": f"{reference}{'x' * errors[i]}", "tokens": []}
            for source, reference, errors in ROWS
        ]
        for i, name in enumerate(results["methods"])
    }  # fmt: skip


class Parsed(HTMLParser):
    """The tags, the addresses and the text of a page; every tag must be closed."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile(results):
    """Results in which every text that a user chooses is markup."""
    name = f"evil {EVIL}"
    results["methods"][name] = {
        **results["methods"].pop("differentiable_scheduled_sampling"), "settings": {EVIL: EVIL}
    }  # fmt: skip
    results["task"] |= {"name": EVIL, "settings": {"data": EVIL}, "files": {EVIL: "abc"}}
    results["task"] |= {"notes": [EVIL], "signatures": {"bleu": EVIL}}
    return {**results, "command": EVIL, "versions": {"python": EVIL}, "codec": EVIL}


def test_nothing_in_data_or_names_becomes_markup(hostile):
    page = write_page(hostile, make_outputs(hostile))
    parsed = Parsed(page)
    assert not {"script", "img", "iframe", "link", "object"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    # The command, a setting, a digest, a note, the source of an example, …
    assert parsed.text.count(EVIL) > 20


def test_a_page_needs_nothing_but_itself(results):
    parsed = Parsed(write_page(results, make_outputs(results)))
    addresses = [v for k, v in parsed.attributes if k in ("href", "src", "xlink:href", "action")]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    ids = [value for key, value in parsed.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses} <= set(ids)
    policy = dict(parsed.attributes)["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_same_results_give_the_same_page(results):
    assert write_page(results, {}) == write_page(results, {})


def test_a_page_without_outputs_says_so(results):
    text = Parsed(write_page(results, {})).text
    assert NO_OUTPUTS in text
    assert "Examples" not in text


def test_what_is_visible(results, tmp_path):
    results |= {"command": "freerun compare digits", "examples": {"test": 1000}}
    seen = look(write_page(results, make_outputs(results)), tmp_path)
    text = seen["text"]
    assert seen["title"] == "digits: 3 training methods compared"
    answer = text.index("differentiable_scheduled_sampling is best: its character error is 7.00 %")
    assert answer < text.index("Figures") < text.index("Plots") < text.index("Examples")
    for part in (
        "digits, 1,200 updates each, 2 seeds, 1,000 test examples",
        "11.00 ± 1.41",
        "Δ -4.00*",
        "-4.00 to -4.00",
        "Where differentiable_scheduled_sampling is better than mle by most",
        "freerun compare digits",
        "hello",
    ):
        assert part in text
    # Settings are folded, and can be opened without a script.
    assert "greater_is_better" not in text
    assert len(seen["pictures"]) == 3
    assert min(seen["pictures"]) > 300
    assert (seen["back"], seen["ink"]) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")


def test_it_can_be_read_in_the_dark(results, tmp_path):
    page = write_page(results, {})
    light, dark = look(page, tmp_path), look(page, tmp_path, dark=True)
    for name in ("back", "ink", "line", "plotted"):
        assert light[name] != dark[name]
    for seen in (light, dark):
        assert seen["plotted"] == seen["ink"]
        assert contrast(seen["ink"], seen["back"]) > 7
        assert contrast(seen["line"], seen["back"]) > 3


def test_it_can_be_read_on_a_phone(results, tmp_path):
    seen = look(write_page(results, make_outputs(results)), tmp_path, width=390)
    assert seen["width"] <= seen["room"] <= 390
    assert all(300 < width <= 390 for width in seen["pictures"])


def test_a_browser_runs_nothing_of_the_data(hostile, tmp_path):
    seen = look(write_page(hostile, make_outputs(hostile)), tmp_path)
    assert seen["alerts"] == 0
    assert not {"script", "img"} & set(seen["tags"])
    assert "<script>alerted = 1</script>" in seen["text"]


def contrast(one, other):
    """The contrast ratio of two colors (WCAG 2.1): 3 for graphics and 4.5 for text is enough."""

    def luminance(color):
        parts = [int(each) / 255 for each in re.findall(r"\d+", color)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_color_can_be_seen_on_its_background():
    style = Path(report.__file__).with_name("templates").joinpath("page.html").read_text("utf-8")
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colors = {
            name: f"rgb({', '.join(str(int(value[i : i + 2], 16)) for i in (0, 2, 4))})"
            for name, value in re.findall(r"--([\w]+): #([0-9a-f]{6})", block)
        }
        for name in ("text", "muted", "good", "bad"):
            assert contrast(colors[name], colors["back"]) > 4.5, name
        for name in ("wrong", "missing", "panel"):
            assert contrast(colors["text"], colors[name]) > 4.5, name
        for i in range(7):
            assert contrast(colors[f"c{i}"], colors["back"]) > 3, i


def test_differences_are_marked():
    assert mark_differences("helo", "hello", by_words=False) == [
        Piece("same", "hel"), Piece("missing", "l"), Piece("same", "o"),
    ]  # fmt: skip
    assert mark_differences("the cat sat here", "the dog sat", by_words=True) == [
        Piece("same", "the"), Piece("same", " "), Piece("wrong", "cat"), Piece("same", " "),
        Piece("same", "sat"), Piece("same", " "), Piece("wrong", "here"),
    ]  # fmt: skip
    assert mark_differences("", "ab", by_words=False) == [Piece("missing", "ab")]
    assert mark_differences("", "", by_words=False) == []


def test_examples_are_chosen_by_their_errors():
    errors = {"mle": [5, 0, 1, 9, 2], "ss": [1, 3, 1, 9, 2]}
    outputs = {
        name: [
            {"source": None, "reference": f"r{i}", "output": "o", "errors": count}
            for i, count in enumerate(counts)
        ]
        for name, counts in errors.items()
    }
    groups = choose_groups(outputs, "mle", "ss", by_words=False)
    chosen = {g.title: [example.number for example in g.examples] for g in groups}
    # In all, there are 6, 3, 2, 18 and 4 errors; the median is 4.
    assert chosen == {
        "Where ss is better than mle by most": [1],
        "Where ss is worse than mle by most": [2],
        "Typical": [5, 3, 4],
    }


def test_the_answer_names_the_best_method_and_its_price(results):
    assert describe_comparison(results) == [
        "differentiable_scheduled_sampling is best: its character error is 7.00 %, that of mle "
        "11.00 %; it is lower by 4.00 points (95 % interval 4.00 to 4.00).",
        "scheduled_sampling:schedule=linear,k=0.9 is better than mle by 2.00 points (95 % interval "
        "2.00 to 2.00).",
        "An update of differentiable_scheduled_sampling takes 3.00 times as long as one of mle "
        "(30.0 ms and 10.0 ms).",
    ]
    best = results["methods"]["differentiable_scheduled_sampling"]["difference_to_mle"]
    best["exact_match"] = estimate_difference([-0.1, -0.1], None)
    assert describe_comparison(results)[1] == "But its exact match is worse, by 10.00 points."


def test_a_better_mean_that_may_be_chance_is_not_the_best(results):
    entry = results["methods"]["differentiable_scheduled_sampling"]["difference_to_mle"]
    entry["character_error"] = estimate_difference([-0.1, 0.02], None)
    lines = describe_comparison(results)
    assert lines[0].startswith(
        "scheduled_sampling:schedule=linear,k=0.9 is clearly better than mle: its character error "
    )
    assert lines[1].startswith("differentiable_scheduled_sampling is better than mle by 4.00")
    assert lines[1].endswith("seeds would be needed to tell.")
    assert lines[2].startswith("An update of scheduled_sampling:schedule=linear,k=0.9 takes ")
    assert len(lines) == 3


def test_the_answer_may_be_that_nothing_helps(results):
    names = list(results["methods"])
    for name, values in zip(names[1:], ([-0.01, 0.02], [0.03, 0.03]), strict=True):
        entry = results["methods"][name]["difference_to_mle"]
        entry["character_error"] = {**estimate_difference(values, None), "seeds_needed": 40}
        results["methods"][name]["test"]["character_error"]["mean"] = 0.5
    assert describe_comparison(results)[:3] == [
        "Nothing helps clearly: the character error of no method is better than the 11.00 % of mle "
        "beyond what chance explains.",
        "differentiable_scheduled_sampling is worse than mle by 3.00 points (95 % interval 3.00 to "
        "3.00).",
        "scheduled_sampling:schedule=linear,k=0.9 is worse than mle by 0.50 points (95 % interval "
        "-18.56 to 19.56) on average, which may be chance: about 40 seeds would be needed to "
        "tell.",
    ]


def test_the_interval_of_an_improvement_is_positive_where_it_improves(results):
    del results["methods"]["differentiable_scheduled_sampling"]
    entry = results["methods"]["scheduled_sampling:schedule=linear,k=0.9"]
    entry["difference_to_mle"]["character_error"] = estimate_difference([0.01, -0.02], None)
    assert describe_comparison(results)[1].startswith(
        "scheduled_sampling:schedule=linear,k=0.9 is better than mle by 0.50 points (95 % interval "
        "-18.56 to 19.56) on average, which may be chance: "
    )


def test_the_answer_says_what_weakens_it(results):
    results["seeds"], results["majority"] = [0], {"character_error": 0.01, "exact_match": 0.9}
    results["training"]["budget"] = 90.0
    for entry in results["methods"].values():
        entry["difference_to_mle"] = {"character_error": estimate_difference([-0.01], None)}
    assert describe_comparison(results) == [
        "One seed cannot tell whether a method has a better character error than the 11.00 % of "
        "mle. At least 2 seeds are needed; their results will say how many are enough.",
        *(
            f"{name} is better than mle by 1.00 points on average; there is no interval to judge "
            "this by."
            for name in list(results["methods"])[1:]
        ),
        "Every method was trained for 90 seconds.",
        "No model is better than a guess that ignores its source, with 1.00 %.",
    ]


def test_a_clear_difference_of_one_seed_is_that_of_one_seed(results):
    results["seeds"] = [0]
    best = results["methods"]["differentiable_scheduled_sampling"]["difference_to_mle"]
    best["character_error"] |= {"low": -0.05, "high": -0.03}
    lines = describe_comparison(results)
    assert lines[0].startswith("differentiable_scheduled_sampling is best: ")
    assert lines[-1] == "There is only one seed: other seeds may give other differences."


def test_without_mle_the_best_mean_is_named(results):
    results["base"] = None
    assert describe_comparison(results) == [
        "differentiable_scheduled_sampling has the best mean: character error 7.00 %. No method is "
        "MLE, so there are no differences to it."
    ]
    page = Parsed(write_page(results, make_outputs(results))).text
    assert "By how much they differ" not in page


def test_open_ended_text_is_shown_without_marks(results):
    for entry in results["methods"].values():
        for group in ("test", "difference_to_mle"):
            entry[group]["ms_jaccard"] = entry[group].pop("character_error")
        for curve in entry["learning_curves"]:
            curve[:] = [{"update": p["update"], "ms_jaccard": 0.5} for p in curve]
    results["task"] |= {"metric": "ms_jaccard", "greater_is_better": True}
    results["majority"] = {"ms_jaccard": 0.1}
    parsed = Parsed(write_page(results, make_outputs(results)))
    assert "The first examples" in parsed.text
    assert "worldxxxx" in parsed.text
    assert "mark" not in parsed.tags


def test_the_distance_of_the_lines_by_position_is_explained(results):
    assert NO_CONTROL in write_page(results, {})
    results["methods"]["mle"]["error_after_reference"] = {"mean": [0.1] * 3, "std": [None] * 3}
    page = write_page(results, {})
    assert DISTANCE in page
    assert NO_CONTROL not in page
