"""Questions of arithmetic: reading, generating, characters, splits."""

import re
from decimal import Decimal

import pytest

from freerun.data.questions import Question, generate, read_questions
from freerun.metrics import score, score_majority_guess
from freerun.tasks import Arithmetic, load_data
from tests.codecs import source_texts
from tests.helpers import raises


def lines(count, start=0):
    """Different questions and their answers, a line each."""
    rows = [f"{i} + 1\n{i + 1}" for i in range(start, start + count)]
    return "\n".join(rows) + "\n"


def asked(data, part):
    return source_texts(data.codec, getattr(data, part))


def test_questions_and_answers_take_turns(write):
    path = write("What is 1 + 1?\r\n 2 \n-1-1\n-2", "questions.txt.gz")
    assert read_questions(path) == [
        Question("What is 1 + 1?", "2", path, 1),
        Question("-1-1", "-2", path, 3),
    ]


def test_the_files_of_a_folder_are_read_together_in_their_order(write, tmp_path, refuses):
    second, first = write("1+1\n2", "all/b.txt"), write("2+2\n4", "all/a.txt.gz")
    write("not read", "all/README.md")
    found = read_questions(str(tmp_path / "all"))
    assert [(question.text, question.file) for question in found] == [
        ("2+2", first),
        ("1+1", second),
    ]
    folder = tmp_path / "none"
    folder.mkdir()
    message = f"{folder}: no file in this folder ends in .txt or .txt.gz"
    refuses(message, read_questions, str(folder))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("1+1\n2\n3+3", "line 3: the question has no answer"),
        ("1+1\n\n3+3\n6", "line 2: the answer is empty"),
        ("1+1\n2\n \n6", "line 3: the question is empty"),
    ],
)
def test_what_is_missing_is_named_with_its_line(write, refuses, contents, message):
    path = write(contents)
    turns = "questions and answers take turns, a line each"
    refuses(f"{path}, {message}; {turns}", Arithmetic(path).rows)


N = r"(-?\d+(?:\.\d+)?)"
SUM = [rf"{N} ?\+ ?{N}", rf"{N} plus {N}", rf"Add {N} (?:and|to) {N}", rf"the sum of {N} and {N}"]
DIFFERENCE = [rf"{N} - {N}", rf"{N} minus {N}"]
REVERSED = [rf"Subtract {N} from {N}", rf"Take {N} away from {N}", rf"{N} less than {N}"]
RULES = [(SUM, 1, 1), (DIFFERENCE, 1, -1), (REVERSED, -1, 1)]


def test_generated_answers_are_right():
    met = set()
    for question in generate(2_000, 3, seed=1):
        for form, one, other in ((f, *signs) for forms, *signs in RULES for f in forms):
            found = re.fullmatch(rf"(?:What is |Work out |Calculate )?{form}[?.]?", question.text)
            if found:
                a, b = map(Decimal, found.groups())
                assert Decimal(question.answer) == one * a + other * b, question
                met.add(form)
                break
        else:
            pytest.fail(question.text)
    assert len(met) == len(SUM) + len(DIFFERENCE) + len(REVERSED)


def test_generated_questions_differ_and_the_first_stay_the_same():
    more, fewer = generate(300, 2, seed=0), generate(100, 2, seed=0)
    assert more[:100] == fewer
    assert len({question.text for question in more}) == 300
    assert generate(100, 2, seed=1) != fewer
    numbers = re.findall(N, " ".join(question.text for question in more))
    assert max(len(number.lstrip("-0.").replace(".", "")) for number in numbers) == 2


def test_numbers_are_written_plainly():
    answers = [question.answer for question in generate(3_000, 2, seed=0)]
    assert all(answer == f"{Decimal(answer).normalize():f}" for answer in answers)
    assert "-0" not in answers
    assert {"0", "100"} < set(answers)


def test_too_many_questions_are_refused(monkeypatch, refuses):
    monkeypatch.setattr("freerun.data.questions._FORMS", (("{a}+{b}", 1),))
    message = (
        "arithmetic: 2002 different questions are needed, and with numbers of 1 digits only 1309 "
        "were found; use more digits"
    )
    task = Arithmetic(digits=1, train_size=2_000, dev_size=1, test_size=1)
    refuses(message, task.rows)


def test_the_embedded_questions_need_nothing():
    task = Arithmetic(train_size=200, dev_size=20, test_size=30)
    data = load_data(task)
    assert data.notes == [
        "the questions are generated, of numbers of up to 4 digits",
        "train 200, dev 20, test 30 questions",
    ]
    sides = [set(asked(data, part)) for part in ("train", "dev", "test")]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 250
    other = load_data(Arithmetic(train_size=300, dev_size=20, test_size=30))
    assert asked(other, "test") == asked(data, "test")
    assert score_majority_guess(task.get_metrics(), data)["exact_match"] < 0.1


def test_no_question_is_on_two_sides(write):
    text = lines(200) + "".join(f"{i}  + 1\n{i + 1}\n" for i in range(0, 200, 2))
    data = load_data(Arithmetic(write(text), dev_size=20, test_size=10))
    assert (len(data.train), len(data.dev), len(data.test)) == (270, 20, 10)
    sides = [
        {" ".join(text.split()) for text in asked(data, part)} for part in ("dev", "test", "train")
    ]
    assert sum(map(len, sides)) == 200
    assert data.notes == ["train 270, dev 20, test 10 questions"]


def test_a_file_to_report_on(write):
    train, test = write(lines(100)), write(lines(30, start=90), "test.txt")
    data = load_data(Arithmetic(train, test=test, train_size=50, dev_size=5, test_size=25))
    assert (len(data.train), len(data.dev), len(data.test)) == (50, 5, 25)
    assert data.notes[:2] == [
        "train was cut from 95 questions to 50, drawn by seed",
        "test was cut from 30 questions to 25, drawn by seed",
    ]
    both = set(asked(data, "test")) & set(asked(data, "train"))
    assert data.notes[2] == f"{len(both)} questions of test are also in train"


@pytest.fixture
def trained(write):
    """The task and the codec of a file of questions."""
    task = Arithmetic(write("What 1+2?\n3\n-1 + 2\n1\n" + lines(20), "train.txt"))
    return task, load_data(task).codec


def test_characters_and_eos(write, trained):
    task, codec = trained
    rows = task.read_examples(write("-1 + 2\n1\n1+2?\n3"))
    examples = codec.encode(rows)
    batch = examples.batch([0, 1])
    assert source_texts(codec, examples) == ["-1 + 2", "1+2?"]
    assert codec.target.symbols == (*"0123456789", "<eos>")
    assert batch.target.tolist() == [[1, 10], [3, 10]]
    assert codec.limit == 2 + 1 + 1
    assert codec.write([1, 2, 10, 1], ()) == "12"


def test_lines_to_answer(refuses, trained):
    task, codec = trained
    examples = task.read_sources(codec, ["What 1+2?", "2"], "-")
    assert examples.lines == [["What 1+2?"], ["2"]]
    assert codec.source_text(examples.batch([0]).source.values[0]) == "What 1+2?"
    assert examples.batch([0, 1]).target.shape == (2, 0)
    refuses("-: nothing to read", task.read_sources, codec, [], "-")
    refuses("-, line 2: there is no prompt", task.read_sources, codec, ["1", " "], "-")


def test_unknown_characters_are_errors_of_outputs(write):
    train = write(lines(50), "train.txt")
    path = write("1+1\n2\n1+2\n3.")
    task = Arithmetic(train, test=path)
    data = load_data(task)
    assert f"{path}, line 3: the target has '.', which the training" in data.notes[-2]
    assert data.notes[-1].endswith("so are never right: '3.' is read as '3<unk>'")
    right = [list(reference) for reference in data.test.references]
    assert data.test.batch([1]).target[0, 1] >= data.codec.target.actions
    outputs = [right[0], right[1][:1]]
    assert score(task.get_metrics(), data.codec, outputs, data.test)["exact_match"] == 0.5
    (values,) = task.read_sources(data.codec, ["1+ß"], "-").batch([0]).source.values
    assert values.tolist() == [*values[:2].tolist(), data.codec.factors[0] - 1]


def test_too_few_questions_are_refused(write, refuses):
    path = write(lines(2))
    refuses(f"{path}: 2 questions are too few to split", Arithmetic(path).rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"digits": 0}, "digits is 0; it must lie in 1 … 9"),
        ({"digits": 10}, "digits is 10; it must lie in 1 … 9"),
        (
            {"digits": 2, "data": "a.txt"},
            "digits has no effect on data that are given; leave one out",
        ),
        ({"train_size": 0}, "train_size is 0; it must be at least 1"),
        ({"test_size": -1}, "test_size is -1; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with raises(ValueError, message):
        Arithmetic(**settings)


def test_the_files_of_the_generator(real):
    task = Arithmetic(real("arithmetic/train-easy/arithmetic__add_or_sub.txt.gz"))
    data = load_data(task)
    assert (len(data.train), len(data.dev), len(data.test)) == (6_700, 500, 800)
    assert data.codec.target.symbols == (*"-.0123456789", "<eos>")
    folder = Arithmetic(
        real("arithmetic/train-easy"), test=real("arithmetic/interpolate/arithmetic__mul.txt.gz")
    )
    assert len(folder.rows()["train"]) == 23_500
