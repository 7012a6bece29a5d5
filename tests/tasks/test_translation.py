"""Translation: splits, what models read and write, scores."""

import json

import pytest
from sacrebleu.metrics import BLEU

from freerun.data import DataError
from freerun.data.parallel import Pair
from freerun.metrics import list_signatures, score, score_majority_guess
from freerun.tasks import Translation, load_data
from tests.codecs import source_texts
from tests.helpers import raises

NAMES = ["Tom", "Anna", "Udo", "Ina", "Max", "Eva", "Jan", "Lea", "Ole", "Ida"]
VERBS = [("kommt", "comes"), ("geht", "goes"), ("ruht", "rests"), ("lacht", "laughs")]
PAIRS = [Pair(f"{n} {de} heute.", f"{n} {en} today.") for n in NAMES for de, en in VERBS]
SIGNATURE = "nrefs:1|case:{case}|eff:no|tok:{tok}|smooth:exp|version:"


def table(pairs):
    return "".join(f"{target}\t{source}\n" for source, target in pairs)


@pytest.fixture
def task(write):
    """A function that makes a task of a file of pairs."""

    def make(pairs=PAIRS, **settings):
        path = write(table(pairs), "pairs.tsv")
        return Translation(path, source_column=1, target_column=0, **settings)

    return make


@pytest.fixture
def files(write):
    """A function that writes pairs to two files, and returns the settings that name them."""

    def make(**parts):
        settings = {}
        for name, pairs in parts.items():
            for side, texts in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
                path = write("\n".join(texts) + "\n", f"{name}.{side}")
                settings[f"{name}_{side}"] = path
        return settings

    return make


def texts(examples, codec):
    """The sources and targets of examples."""
    targets = examples.batch(range(len(examples))).target.tolist()
    return list(zip(source_texts(codec, examples), map(codec.text, targets), strict=True))


# Splits


def test_a_file_is_split_by_its_targets(task):
    repeated = [Pair(f"{source} {i}", target) for source, target in PAIRS for i in range(3)]
    data = load_data(task(repeated, source_tokens="words:99", target_tokens="words:99"))
    assert (len(data.train), len(data.dev), len(data.test)) == (96, 12, 12)
    parts = [texts(part, data.codec) for part in (data.train, data.dev, data.test)]
    assert sorted(pair for part in parts for pair in part) == sorted(repeated)
    targets = [{target for _, target in part} for part in parts]
    assert [len(part) for part in targets] == [32, 4, 4]
    assert not targets[0] & targets[1] | targets[0] & targets[2] | targets[1] & targets[2]
    assert data.test.texts == [target for _, target in parts[2]]


def test_targets_that_differ_in_case_or_spaces_are_equal_where_they_are_read_alike(task):
    twins = [Pair(s, t) for source, target in PAIRS for s, t in
             ((source, target), (source, target.upper().replace(" ", "  ")))]  # fmt: skip
    data = load_data(task(twins, lower=True))
    for part in (data.train, data.dev, data.test):
        assert len(part) == 2 * len({" ".join(text.lower().split()) for text in part.texts})


def test_the_split_is_that_of_the_seed(task):
    one, same, other = (load_data(task(seed=seed)) for seed in (0, 0, 1))
    assert one.test.texts == same.test.texts != other.test.texts
    assert one.codec.target == same.codec.target


def test_sizes_are_drawn_and_noted(task):
    data = load_data(
        task(
            train_size=20,
            dev_size=3,
            test_size=2,
            source_tokens="words:5",
            target_tokens="words:99",
        )
    )
    assert (len(data.train), len(data.dev), len(data.test)) == (20, 3, 2)
    assert data.notes[0] == "train was cut from 35 pairs to 20, drawn by seed"
    assert data.notes[4] == "train 20, dev 3, test 2 pairs"
    known = (5, data.codec.target.actions - 2)  # without <unk> and eos
    test = data.test.batch([0, 1])
    unknown = [
        int((rows == 0).sum()) / count
        for rows, count in ((test.source.values, 8), (test.target, 10))
    ]
    assert data.notes[5:] == [
        f"{side}: {count} tokens are known; {share:.1%} of those of test are not"
        for side, count, share in zip(("source", "target"), known, unknown, strict=True)
    ]
    assert unknown[0] > 0


def test_given_splits_are_used_as_they_are(files):
    train = [Pair("Hallo !", "Hi !"), Pair("Oh .", "Oh ."), Pair("Ach .", "Ah .")]
    dev, test = [Pair("Oh .", "Ah ."), Pair("a", "b")], [train[0], Pair("Oh .", "O .")]
    data = load_data(
        Translation(
            **files(train=train, dev=dev, test=test),
            source_tokens="symbols:99",
            target_tokens="symbols:99",
        )
    )
    assert texts(data.train, data.codec) == train
    assert data.notes[:4] == [
        "of the 2 pairs of test, 2 have a source that is also in train, 1 a target, 1 both",
        "of the 2 pairs of test, 1 have a source that is also in dev, 0 a target, 0 both",
        "of the 2 pairs of dev, 1 have a source that is also in train, 1 a target, 0 both",
        "train 3, dev 2, test 2 pairs",
    ]
    assert data.test.texts == ["Hi !", "O ."]


def test_what_is_missing_is_taken_out_of_train(files):
    data = load_data(Translation(**files(train=PAIRS, test=PAIRS[:7])))
    assert (len(data.train), len(data.dev), len(data.test)) == (36, 4, 7)
    assert data.test.texts == [target for _, target in PAIRS[:7]]
    assert sorted([*data.train.texts, *data.dev.texts]) == sorted(target for _, target in PAIRS)
    shared = [int(note.split(", ")[1].split()[0]) for note in data.notes[:2]]
    assert sum(shared) == 7


def test_long_pairs_are_left_out_of_train_alone_and_counted(task):
    long = [Pair(f"{s} und und", t) for s, t in PAIRS[:20]]
    data = load_data(task([*long, *PAIRS[20:]], length=5))
    kept = {target for _, target in PAIRS[:20]} & {*data.dev.texts, *data.test.texts}
    left = 20 - len(kept)
    assert 0 < left < 20
    assert len(data.train) == 32 - left
    assert data.notes[0] == (
        f"{left} pairs of train were left out: they have over 5 words on a side"
    )
    assert data.codec.limit == 4 + 2 + 1


def test_pairs_that_are_too_few_or_too_long_are_refused(task, refuses):
    few = task([Pair("a", "b"), Pair("c", "b")])
    message = (
        f"{few.data}: 2 pairs cannot be split, as they have only 1 different targets, and equal "
        "ones stay in one split; give dev and test"
    )
    refuses(message, few.rows)
    long = task(length=2)
    refuses(f"{long.data}: all pairs to train on have over 2 words on a side", long.rows)


def test_datasets(write, tmp_path, refuses, local_datasets):
    rows = [{"translation": {"de": source, "en": target}} for source, target in PAIRS]
    for name in ("train", "validation"):
        write("\n".join(map(json.dumps, rows)), f"rows/{name}.jsonl")
    folder = str(tmp_path / "rows")
    data = load_data(Translation(folder, source_column="en", target_column="de"))
    assert (len(data.train), len(data.dev), len(data.test)) == (36, 40, 4)
    assert data.dev.texts == [source for source, _ in PAIRS]
    message = f"{folder}/train.jsonl: no column 'fr'; it has de, en"
    refuses(message, Translation(folder, source_column="fr", target_column="de").rows)


def test_the_subset_of_a_dataset(monkeypatch, task, refuses, local_datasets, tmp_path):
    asked = []
    split = local_datasets.Dataset.from_list([pair._asdict() for pair in PAIRS])

    def load_dataset(*names):
        asked.append(names)
        return local_datasets.DatasetDict({"train": split})

    monkeypatch.setattr(local_datasets, "load_dataset", load_dataset)
    assert len(load_data(Translation("some/where", subset="de-en")).train) == 32
    assert asked == [("some/where", "de-en")]
    file = task(subset="de-en")
    refuses(f"{file.data}: it is a file, and has no subset 'de-en'", file.rows)
    saved = str(tmp_path / "saved")
    split.save_to_disk(saved)
    message = f"{saved}: it was saved as it is, and has no subset 'de-en'"
    refuses(message, Translation(saved, subset="de-en").rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "translation needs data, or train_source and train_target"),
        ({"test_source": "a", "test_target": "b"},
         "translation needs data, or train_source and train_target"),
        ({"train_source": "a"}, "train_source is given without train_target"),
        ({"data": "a", "dev_target": "b"}, "dev_target is given without dev_source"),
        ({"data": "a", "dev_source": "b", "dev_target": "c"},
         "data is given together with dev_source; give one or the other"),
        ({"data": "a", "source_column": "de"},
         "source_column and target_column must both be numbers or both names"),
        ({"data": "a", "source_column": 1}, "source_column and target_column are both 1"),
        ({"data": "a", "target_column": -1}, "target_column is -1; columns are counted from 0"),
        ({"data": "a", "target_tokens": "words:0"},
         "the number of words tokens is 0; it must be at least 1"),
        ({"data": "a", "source_tokens": "bpe:256"},
         "the number of bpe tokens is 256; it must be at least 257"),
        ({"data": "a", "source_tokens": "wrods:9"},
         "unknown tokens 'wrods:9'; did you mean 'words'?; "
         "they are one of characters, graphemes, symbols, words, bpe, "
         "bytes, or the path of a tokenizer"),
        ({"data": "a", "length": 0}, "length is 0; it must be at least 1"),
        ({"data": "a", "dev_size": 0}, "dev_size is 0; it must be at least 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, message):
    with raises(ValueError, message):
        Translation(**settings)


def test_a_tokenizer_that_is_gone_is_missed_where_it_is_read(task, tmp_path):
    path = f"{tmp_path}/gone/tokenizer.json"
    with raises(DataError, f"{path}: there is no such file"):
        load_data(task(source_tokens=path))


# Scores


@pytest.fixture
def scored(files):
    """A function that scores texts against references, whose rare words are not in the vocabulary.

    `extra` are the outputs' own words.
    """

    def scores(outputs, references, target_tokens="words:5", **settings):
        pairs = [Pair("x", "a b c d e") for _ in range(3)]
        test = [Pair("x", reference) for reference in references]
        task = Translation(
            **files(train=pairs, dev=pairs, test=test), target_tokens=target_tokens, **settings
        )
        data = load_data(task)
        rows = [data.codec.target.encode(output.split()) for output in outputs]
        return score(task.get_metrics(), data.codec, rows, data.test)

    return scores


def test_bleu_by_hand(scored):
    # Matches of 1, 2, 3 and 4 words: 4/5, 3/4, 2/3, 1/2.
    found = scored(["a b c d a"], ["a b c d e"])
    assert found["bleu"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert found["exact_match"] == 0
    assert list(found) == ["bleu", "chrf", "exact_match"]


def test_bleu_and_chrf_are_of_a_hundred(scored):
    found = scored(["a b c d e", ""], ["a b c d e", "a"])
    assert 80 < found["bleu"] < found["chrf"] <= 100
    assert scored(["a b c d e"], ["a  b c d e"]) == pytest.approx(
        {"bleu": 100, "chrf": 100, "exact_match": 1}
    )


@pytest.mark.parametrize("reference", ["rare b c d e", "<unk> b c d e", "\u2047 b c d e"])
@pytest.mark.parametrize("tokens", ["words:5", "symbols:5"])
def test_unknown_words_never_match(scored, reference, tokens):
    found = scored(["rare b c d e", "a b c d e"], [reference, "a b c d e"], target_tokens=tokens)
    assert found["exact_match"] == 1 / 2
    # As sacrebleu scores what `freerun predict` writes, with another reference for `<unk>` itself.
    rules = "none" if tokens == "symbols:5" else "13a"
    texts = ["<unk> b c d e", "a b c d e"], ["unlike b c d e", "a b c d e"]
    if reference[0] == "r" or rules == "none":
        expected = BLEU(tokenize=rules, force=True).corpus_score(texts[0], [texts[1]]).score
        assert found["bleu"] == pytest.approx(expected)
    assert found["bleu"] < 95


def test_case_counts_but_where_all_is_lower(task, files):
    for lower, case in ((False, "mixed"), (True, "lc")):
        made = task(lower=lower, target_tokens="words:99")
        data, metrics = load_data(made), made.get_metrics()
        found = score(metrics, data.codec, list(data.train.references), data.train)
        assert found["bleu"] == pytest.approx(100)
        assert found["exact_match"] == 1
        signed = list_signatures(metrics, data.codec, data.train)
        assert signed["bleu"].startswith("BLEU|" + SIGNATURE.format(case=case, tok="13a"))
        assert signed["chrf"].startswith(f"chrF2|nrefs:1|case:{case}|eff:yes|nc:6|nw:0|")
        assert list(signed) == ["bleu", "chrf"]
        written = [data.codec.text(row) for row in data.train.references]
        assert any(text != text.lower() for text in written) is not lower


def test_symbols_are_scored_as_words(task):
    made = task(target_tokens="symbols:99")
    data = load_data(made)
    found = list_signatures(made.get_metrics(), data.codec, data.train)["bleu"]
    short = SIGNATURE.replace("eff:no", "eff:yes")  # no reference has four words
    assert found.startswith("BLEU|" + short.format(case="mixed", tok="none"))


def test_the_majority_guess_is_the_better_on_dev_by_bleu(files):
    common = Pair("x", "never say never again now")
    train = [common] * 3 + [Pair("x", f"we {w} say so now") for w in ("all", "do", "can", "did")]
    dev = [Pair("x", "never say never again here")]
    task = Translation(**files(train=train, dev=dev, test=[common]))
    found = score_majority_guess(task.get_metrics(), load_data(task))
    assert found == pytest.approx({"bleu": 100, "chrf": 100, "exact_match": 1})


def test_sacrebleu_is_asked_for(refuses, missing, task):
    made = task()
    missing("sacrebleu")
    install = "pip install 'freerun[translation]'"
    message = f"the metric bleu needs sacrebleu, which is missing: {install}"
    refuses(message, made.get_metrics)


def test_all_that_is_read_may_be_in_lower_case(task, write):
    made = task(lower=True)
    codec = load_data(made).codec
    upper = made.read_sources(codec, ["TOM KOMMT HEUTE."], "-").batch([0])
    lower = made.read_sources(codec, ["tom kommt heute."], "-").batch([0])
    assert upper.source.values.tolist() == lower.source.values.tolist()
    path = write("Tom comes.\tTom kommt.\n", "new.tsv")
    assert made.read_examples(path) == [{"source": "tom kommt.", "target": "tom comes."}]


@pytest.mark.parametrize("columns", [(1, 0), ("de", "en")])
def test_a_file_to_evaluate_on(write, refuses, columns):
    task = Translation("pairs.tsv", source_column=columns[0], target_column=columns[1])
    found = task.read_examples(write("en\tde\nTom comes.\tTom kommt.\n"))
    assert found[-1] == {"source": "Tom kommt.", "target": "Tom comes."}
    assert len(found) == (2 if columns == (1, 0) else 1)
    path = write("Tom comes.\n")
    number = "1 column between tabs; the source is in column 1, counted from 0"
    message = "no column 'de'; it has Tom comes." if columns != (1, 0) else number
    refuses(f"{path}, line 1: {message}", task.read_examples, path)


def test_lines_to_translate(refuses, task):
    made = task()
    codec = load_data(made).codec
    sources = made.read_sources(codec, ["Tom kommt.", "  Anna\t! "], "-")
    assert sources.lines == [["Tom kommt."], ["  Anna\t! "]]
    assert sources.batch([0, 1]).source.mask.any(1).all()
    refuses("-, line 2: there is no prompt", made.read_sources, codec, ["a", " "], "-")
    refuses("-: nothing to read", made.read_sources, codec, [], "-")


def test_tatoeba(real):
    path = real("translation/deu-eng.zip")
    task = Translation(path, source_column=1, target_column=0, train_size=2_000, length=12)
    data, metrics = load_data(task), task.get_metrics()
    assert (len(data.train), len(data.dev), len(data.test)) == (2_000, 2_000, 2_000)
    assert data.notes[0] == (
        "15082 pairs of train were left out: they have over 12 words on a side"
    )
    assert not set(data.train.texts) & set(data.test.texts)
    assert max(map(len, data.train.references)) == 12
    found = score(metrics, data.codec, list(data.train.references), data.train)
    assert found["bleu"] == pytest.approx(100)
    found = score(metrics, data.codec, list(data.test.references), data.test)
    assert 55 < found["bleu"] < 75  # <unk> is three tokens of 13a, none of them right
    assert score_majority_guess(metrics, data)["bleu"] < 1
