"""Reading tagged sentences and words."""

import zipfile

import pytest

from freerun.data import DataError
from freerun.data.conll import Sentence, find_files, read_sentences


def read(text, token_column=0, tag_column=-1):
    return read_sentences(enumerate(text.split("\n"), 1), "file", token_column, tag_column)


def words_and_tags(sentences):
    return [(" ".join(s.tokens), " ".join(s.tags)) for s in sentences]


def test_sentences_end_at_blank_lines_and_documents():
    text = (
        "-DOCSTART- -X- O O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n"
        "-DOCSTART- -X- O O\nBonn NNP B-LOC"
    )
    assert words_and_tags(read(text)) == [
        ("EU rejects", "B-ORG O"),
        ("Peter", "B-PER"),
        ("Bonn", "B-LOC"),
    ]


def test_columns_are_parted_by_tabs_where_there_are_any():
    assert words_and_tags(read("New York\tB-LOC\n.\tO")) == [("New York .", "B-LOC O")]
    assert words_and_tags(read("York   B-LOC \n.  O")) == [("York .", "B-LOC O")]
    assert read("a\u00a0b B-X")[0].tokens == ("a\u00a0b",)


def test_columns_can_be_chosen():
    text = "1\tEU\tNNP\tB-ORG\n2\t.\t.\tO"
    assert words_and_tags(read(text, 1, 3)) == [("EU .", "B-ORG O")]
    assert read(text, 1, None) == [
        Sentence(
            ("EU", "."), (), "file", ("line 1", "line 2"), 0, ("1\tEU\tNNP\tB-ORG", "2\t.\t.\tO")
        )
    ]


@pytest.mark.parametrize(
    ("tags", "expected", "begun"),
    [
        # IOB1: B- only where an entity follows one of its type.
        ("I-A I-A O I-A B-A I-A", "B-A I-A O B-A B-A I-A", 2),
        ("I-A I-B I-B", "B-A B-B I-B", 2),
        # IOB2 stays, and so does an I- that continues.
        ("B-A I-A O B-B B-B I-B", "B-A I-A O B-B B-B I-B", 0),
        ("B-A I-B", "B-A B-B", 1),
        ("O I-A", "O B-A", 1),
    ],
)
def test_iob1_is_read_as_iob2(tags, expected, begun):
    rows = "\n".join(f"w {tag}" for tag in tags.split())
    (sentence,) = read(rows)
    assert " ".join(sentence.tags) == expected
    assert sentence.changed == begun


def test_an_entity_does_not_reach_into_the_next_sentence():
    assert words_and_tags(read("a B-A\n\nb I-A")) == [("a", "B-A"), ("b", "B-A")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU B-ORG\nrejects\n", "file, line 2: 1 column; the first sentence has 2"),
        ("EU B-ORG\nrejects O O\n", "file, line 2: 3 columns; the first sentence has 2"),
        ("EU\tB-ORG\n\nrejects O\n", "file, line 3: 1 column; the first sentence has 2"),
        ("EU\n", "file, line 1: one column; a token and a tag are needed"),
        ("EU B-ORG\nthe NN\n", "file, line 2: the tag 'NN' is not O, B-TYPE or I-TYPE"),
        ("EU B-\n", "file, line 1: the tag 'B-' is not O, B-TYPE or I-TYPE"),
        ("EU S-ORG\n", "file, line 1: the tag 'S-ORG' is not O, B-TYPE or I-TYPE"),
        ("EU\tB-ORG\n\tO\n", "file, line 2: the token is empty"),
        ("EU\tB-ORG\nof\t \n", "file, line 2: the tag is empty"),
        ("\n-DOCSTART- O\n\n", "file: there is no sentence in it"),
    ],
)
def test_malformed_lines_are_named(refuses, text, message):
    refuses(message, read, text)


def test_a_column_that_is_not_there_is_named(refuses):
    refuses("file, line 1: no column 4; there are 2, counted from 0", read, "EU O", 0, 4)
    refuses("file, line 1: no column -3; there are 2, counted from 0", read, "EU O", -3, 1)


def found(path):
    return {split: name.removeprefix(f"{path}/") for split, (name, _) in find_files(path).items()}


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "dev.txt", "test.txt"),
        ("eng.train", "eng.testa", "eng.testb"),
        ("train.conll2003", "valid.conll2003", "test.conll2003"),
        ("GermEval-Train.tsv.gz", "GermEval-Dev.tsv.gz", "GermEval-Test.tsv.gz"),
    ],
)
def test_files_of_a_folder_belong_to_splits_by_name(write, tmp_path, names):
    for name in (*names, "README.md", "latest.txt", ".train", "train.jsonl"):
        write(name, f"data/{name}")
    folder = str(tmp_path / "data")
    assert found(folder) == dict(zip(("train", "dev", "test"), names, strict=True))
    assert find_files(folder)["train"][1] == names[0].encode()


def test_files_of_an_archive_belong_to_splits_by_name(tmp_path):
    path = str(tmp_path / "data.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("in/train.txt", "in/test.txt", "__MACOSX/in/train.txt"):
            archive.writestr(name, name)
    assert found(path) == {"train": "in/train.txt", "test": "in/test.txt"}
    assert find_files(path)["test"] == (f"{path}/in/test.txt", b"in/test.txt")


def test_two_files_of_one_split_are_refused(refuses, write, tmp_path):
    write("a", "data/de.train")
    write("b", "data/en.train")
    folder = str(tmp_path / "data")
    message = f"{folder}: both de.train and en.train may be the train file"
    refuses(f"{message}; choose one with train=", find_files, folder)


def test_data_errors_are_value_errors():
    assert issubclass(DataError, ValueError)


UNIVERSAL = """# newdoc
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\tB-X
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\tO
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\tO
2.1\tempty\t_\t_\t_\t_\t_\t_\t_\tO
3\t#mar\tmar\tNOUN\t_\t_\t1\tobl\t_\tB-LOC

# only a comment
"""


def test_comments_ranges_and_empty_nodes_of_conll_u_are_no_words():
    lines = enumerate(UNIVERSAL.splitlines(), 1)
    (sentence,) = read_sentences(lines, "file", 1, -1)
    assert sentence.tokens == ("vamos", "nos", "#mar")
    assert sentence.tags == ("O", "O", "B-LOC")
    assert sentence.places == ("line 4", "line 5", "line 7")


@pytest.mark.parametrize(
    "head", ["# global.columns = ID FORM NER\n", "#\thttps://page [2009]\n", ""]
)
def test_comments_where_words_are_numbered_in_other_columns(head):
    text = head + "1-2\tdu\tO\n1\tde\tO\n2\t#\tB-X\n\n" + head + "1\ta\tO\n"
    found = read_sentences(enumerate(text.splitlines(), 1), "x.conllup", 1, -1)
    assert [sentence.tokens for sentence in found] == [("de", "#"), ("a",)]
    assert [sentence.tags for sentence in found] == [("O", "B-X"), ("O",)]


@pytest.mark.parametrize("text", [UNIVERSAL, "1\tab\tO\n2\tc\tO\n\n1\td\tO\n"])
def test_the_numbers_of_words_are_not_their_tokens(text):
    message = r"^file, line \d: column 0 has the numbers of the words; set token_column to that of"
    with pytest.raises(DataError, match=message):
        read_sentences(enumerate(text.splitlines(), 1), "file", 0, -1)


def test_numbers_that_are_words_are_words():
    lines = enumerate(["1\tO", "2.5\tO", "#\tO"], 1)
    assert read_sentences(lines, "x", 0, -1)[0].tokens == ("1", "2.5", "#")


def test_words_that_begin_with_a_number_sign_are_words_elsewhere():
    (sentence,) = read_sentences([(1, "#1 O"), (2, "x O")], "file", 0, -1)
    assert sentence.tokens == ("#1", "x")


def test_tags_without_a_type():
    tags = ["I", "I", "O", "I", "B", "I-X", "I"]
    lines = [(i, f"w {tag}") for i, tag in enumerate(tags, 1)]
    (sentence,) = read_sentences(lines, "file", 0, -1)
    assert sentence.tags == ("B", "I", "O", "B", "B", "B-X", "B")
    assert sentence.changed == 4
