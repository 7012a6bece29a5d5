"""Images and speech to text: where rows come from, and models from scratch and pretrained."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import GenerationConfig, WhisperTokenizer

from freerun import load
from freerun.cli.predict import _open_lines
from freerun.data import DataError
from freerun.data.files import stream_lines
from freerun.decoding import greedy
from freerun.evaluation import Decoding
from freerun.methods import MLE
from freerun.models.loading import load_model
from freerun.models.settings import PretrainedSettings, RecurrentSettings, Seq2SeqSettings
from freerun.settings import SettingError
from freerun.tasks import load_data
from freerun.training import TrainingSettings, fit, load_policy
from freerun.training.prediction import Model
from freerun.training.sources import stream_batches
from freerun.training.tasks import load_measured
from tests.helpers import raises
from tests.media_files import (
    TEXTS,
    image_task,
    save_donut,
    save_whisper,
    speech_task,
    write_folder,
    write_image,
    write_sound,
)
from tests.models.media import tiny_media_model

SMALL = {"hidden_size": 8, "heads": 2, "layers": 1}
QUICK = TrainingSettings(updates=1, evaluate_every=1, batch_size=4)


@pytest.fixture
def images(tmp_path):
    return write_folder(tmp_path / "images", write_image, ".png", TEXTS)


@pytest.fixture
def sounds(tmp_path):
    return write_folder(tmp_path / "sounds", write_sound, ".wav", TEXTS, "transcription")


def test_a_folder_with_metadata_is_split(images):
    splits = image_task(images).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 10, "dev": 1, "test": 1}
    rows = [row for part in splits.values() for row in part]
    assert {row["target"] for row in rows} == set(TEXTS)
    assert all(row["image"].startswith(str(images)) for row in rows)


def test_a_folder_for_each_split(tmp_path):
    for name in ("train", "validation", "test"):
        write_folder(tmp_path / name, write_image, ".png", TEXTS[:3])
    splits = image_task(tmp_path).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "dev": 3, "test": 3}
    assert splits["dev"][0]["image"] == str(tmp_path / "validation" / "0.png")


def test_a_metadata_file_by_itself_and_columns_by_name(images):
    path = images / "metadata.csv"
    assert len(image_task(path).rows()["train"]) == 10
    task = image_task(path, source_column="file_name", target_column="text")
    assert task.read_examples(str(path))[0]["target"] == "ab"
    with pytest.raises(DataError, match=r"metadata\.csv: no column words; it has file_name, text$"):
        image_task(path, target_column="words").rows()
    with pytest.raises(DataError, match=r"metadata\.csv, line 2: no column picture; it has file"):
        image_task(path, source_column="picture").rows()


def test_a_file_outside_of_the_folder_is_not_read(images, tmp_path):
    write_image(tmp_path / "secret.png", 0)
    (images / "metadata.csv").write_text("file_name,text\n../secret.png,ab\n")
    with pytest.raises(DataError, match=r"outside of .*images, and is not read"):
        image_task(images).rows()


def test_another_folder_to_evaluate_on(images, tmp_path):
    task, other = image_task(images), tmp_path / "other"
    for name in ("one", "test"):
        write_folder(other / name, write_image, ".png", TEXTS[:2])
    for path in (other / "one", other / "one" / "metadata.csv"):
        rows = task.read_examples(str(path))
        found = [(row["image"], row["target"]) for row in rows]
        assert found == [(str(other / "one" / "0.png"), "ab"), (str(other / "one" / "1.png"), "b")]
    (other / "one").rename(other / "train")
    with pytest.raises(DataError, match=r"other: it has several splits; name the folder of one"):
        task.read_examples(str(other))


def test_a_folder_that_lacks_what_is_needed(images):
    path = images / "metadata.csv"
    text = path.read_text()
    path.write_text(text.replace("file_name", "picture"))
    with pytest.raises(DataError, match=r"line 2: no column .*; source_column can name another$"):
        image_task(images).rows()
    path.write_text(text.replace("text", "words"))
    with pytest.raises(DataError, match=r"csv: no column .*; target_column can name another$"):
        image_task(images).rows()
    path.unlink()
    with pytest.raises(DataError, match=r"^.*images: it has image files, but no metadata\.csv or"):
        image_task(images).rows()


def test_a_broken_image_is_named_with_its_row(images):
    (images / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"metadata\.csv, line 5: .*/3\.png cannot be read as an"):
        load_data(image_task(images))
    data = load_data(image_task(images, unusable="drop"))
    assert sum(len(part) for part in (data.train, data.dev, data.test)) == 11
    assert any("1 of 10 rows were left out" in note for note in data.notes)


@pytest.mark.parametrize("media", ["image", "audio"])
def test_columns_of_the_datasets_library(media, images, sounds, tmp_path):
    folder, suffix = (images, "png") if media == "image" else (sounds, "wav")
    paths = [str(folder / f"{i}.{suffix}") for i in range(len(TEXTS))]
    values = [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]
    table = datasets.Dataset.from_dict({media: values, "text": TEXTS})  # how Arrow stores them
    table.save_to_disk(str(tmp_path / "saved"))
    make = image_task if media == "image" else speech_task
    rows = [row for part in make(tmp_path / "saved").rows().values() for row in part]
    expected = [row for part in make(folder).rows().values() for row in part]
    processor = make(folder).make_processor()
    by_text = {row["target"]: processor.read(row[media], "row") for row in rows}
    for row in expected:
        assert np.array_equal(processor.read(row[media], "row"), by_text[row["target"]])


def test_a_model_of_images_from_scratch_is_trained_and_read_again(images, tmp_path):
    task, model = image_task(images), Seq2SeqSettings(patch_size=4, **SMALL)
    data = model.load(task)
    run = fit(task, data, MLE(), model=model, training=QUICK, output=str(tmp_path / "run"))
    policy, codec = load_policy(tmp_path / "run")
    batch = codec.encode(task.rows()["test"]).batch([0])
    inputs = batch.inputs(policy.vocabulary.bos)
    found = policy.force(batch.source, inputs).logits(batch.mask)
    with torch.no_grad():
        expected = run.policy.eval().force(data.test.batch([0]).source, inputs).logits(batch.mask)
    torch.testing.assert_close(found, expected)
    file = str(images / "0.png")
    assert [*_open_lines(file, codec)[0]] == [(1, file)]
    files = [line for _, line in _open_lines(str(images), codec)[0]]
    assert files == sorted(str(path) for path in images.glob("*.png"))
    model = load(tmp_path / "run")
    texts = [found.text for found in model.predict(map(Path, files))]
    assert texts == [found.text for found in model.predict(files, batch_size=5)]
    with pytest.raises(SettingError, match=r"^texts is a str; it must be a list of sources$"):
        model.predict(file)
    # And it is trained on, with a backspace in the tables of its decoder.
    again = PretrainedSettings(path=str(tmp_path / "run"))
    wider = again.build(again.load(task).codec.with_backspace())
    assert wider.vocabulary.backspace is not None


@pytest.fixture
def crops(tmp_path):
    """A folder whose texts are those of the images in the column crop."""
    folder = write_folder(tmp_path / "crops", write_image, ".png", TEXTS)
    rows = [("file_name", "crop", "text")]
    for i, text in enumerate(TEXTS):
        write_image(folder / f"crop-{i}.png", 100 + i)
        rows.append((f"{i}.png", f"crop-{i}.png", text))
    (folder / "metadata.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return folder


def test_the_chosen_column_is_what_is_predicted_from(crops, tmp_path):
    task = image_task(crops, source_column="crop")
    codec = load_data(task).codec
    policy = Seq2SeqSettings(patch_size=4, **SMALL).build(codec).eval()
    table = str(crops / "metadata.csv")
    expected = codec.encode(task.read_examples(table)).batch(range(12)).source.values
    rows = [{"file_name": f"{i}.png", "crop": f"crop-{i}.png"} for i in range(12)]
    listed = crops / "list.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = crops / "list.txt"
    plain.write_text("".join(f"crop-{i}.png\n" for i in range(12)))
    for path in (table, str(listed), str(plain)):
        read = policy, codec, task, stream_lines(path), path, Decoding(), 12
        ((batch, _),) = stream_batches(*read)
        assert torch.equal(batch.source.values, expected)
    model, paths = Model(policy, codec, task), [str(crops / f"crop-{i}.png") for i in range(12)]
    rows = [{"file_name": str(crops / "0.png"), "crop": path} for path in paths]
    found = [each.log_prob for each in model.predict(rows)]
    assert found == pytest.approx([each.log_prob for each in model.predict(paths)])
    assert len(set(found)) > 6
    listed.write_text('{"crop": "crop-0.png"}\n{"crop": null, "file_name": "0.png"}\n')
    with raises(DataError, f"{listed}, line 2: no column crop; it has file_name"):
        [
            *stream_batches(
                policy, codec, task, stream_lines(str(listed)), str(listed), Decoding(), 1
            )
        ]
    with raises(DataError, "source 1: no column crop; it has file_name"):
        model.predict([{"file_name": paths[0]}])


def test_files_that_splits_share_are_noted(tmp_path):
    for i in range(4):
        write_image(tmp_path / f"{i}.png", i)
    for name, numbers in (("train", (0, 1, 2, 0)), ("dev", (3,)), ("test", (1, 2, 1, 3))):
        rows = "".join(f"{i}.png,ab\n" for i in numbers)
        (tmp_path / f"{name}.csv").write_text(f"file_name,text\n{rows}")
    notes = image_task(tmp_path).rows().notes
    assert notes == ["3 image files of test are also in train", "train 4, dev 1, test 4 rows"]


def test_models_that_cannot_read_images(images):
    data = load_data(image_task(images))
    with pytest.raises(ValueError, match=r"^a recurrent model reads no image; seq2seq models can"):
        RecurrentSettings().build(data.codec)
    with pytest.raises(ValueError, match=r"^patch_size is 3; it must divide the height and the"):
        Seq2SeqSettings(patch_size=3).build(data.codec)


def test_language_and_task_of_whisper_are_read_and_not_learned(sounds, tmp_path):
    settings = PretrainedSettings(path=save_whisper(tmp_path / "whisper"))
    data = settings.load(speech_task(sounds, language="de", mode="transcribe"))
    codec, names = data.codec, data.codec.tokenizer.convert_ids_to_tokens
    read = names([*codec.prefix, codec.target.bos])
    assert read == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    texts = sorted("".join(names(row)) for part in (data.train, data.dev, data.test)
                   for row in part.references)  # fmt: skip
    assert texts == sorted(TEXTS)
    assert codec.limit == 4 + 3 // 2
    assert settings.build(codec).prefix == codec.prefix


def test_a_whisper_that_starts_with_another_token_than_its_tokenizer(sounds, tmp_path):
    path = save_whisper(tmp_path / "whisper")
    tokenizer = WhisperTokenizer.from_pretrained(path)
    message = r"is that of <\|endoftext\|>; the tokenizer begins with <\|startoftranscript\|>$"
    with pytest.raises(DataError, match=message):
        speech_task(sounds).make_codec(path, tokenizer, tokenizer.eos_token_id)


def test_a_language_that_is_not_there(sounds, tmp_path):
    settings = PretrainedSettings(path=save_whisper(tmp_path / "whisper"))
    with pytest.raises(DataError, match=r"^language: .*klingon"):
        settings.load(speech_task(sounds, language="klingon"))
    with pytest.raises(DataError, match=r"^language has no effect on a model without a tokenizer"):
        load_data(speech_task(sounds, language="de"))


@pytest.mark.parametrize(
    ("multilingual", "told", "message"),
    [
        (True, {}, "it is multilingual; tell it the language of the speech, as in --task.language"),
        (True, {"mode": "translate"}, "it is multilingual; tell it the language of the speech"),
        (False, {"language": "en"}, "it is for English alone; leave language and mode out"),
    ],
)
def test_a_whisper_that_is_told_too_little_or_too_much(
    sounds, tmp_path, multilingual, told, message
):
    path = save_whisper(tmp_path / "whisper")
    GenerationConfig(is_multilingual=multilingual).save_pretrained(path)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        PretrainedSettings(path=path).load(speech_task(sounds, **told))


@pytest.mark.parametrize(
    ("told", "read"),
    [({"language": "de"}, ["<|de|>", "<|transcribe|>"]), ({}, [])],
    ids=["german", "unknown"],
)
def test_transcribing_is_the_default_of_a_language(sounds, tmp_path, told, read):
    settings = PretrainedSettings(path=save_whisper(tmp_path / "whisper"))
    codec = settings.load(speech_task(sounds, **told)).codec
    names = codec.tokenizer.convert_ids_to_tokens([*codec.prefix, codec.target.bos])
    assert names == ["<|startoftranscript|>", *read, "<|notimestamps|>"]


def test_the_task_of_donut_is_read_and_not_learned(images, tmp_path):
    settings = PretrainedSettings(path=save_donut(tmp_path / "donut"))
    data = settings.load(image_task(images, prefix="<s_receipt>"))
    codec, names = data.codec, data.codec.tokenizer.convert_ids_to_tokens
    assert names([*codec.prefix, codec.target.bos]) == ["<s>", "<s_receipt>"]
    rows = [names(row) for row in data.train.references]
    assert all(set(row) <= set("abc") for row in rows)
    policy = settings.build(codec)
    assert policy.prefix == codec.prefix
    # Nor is it written, though the model can write it.
    batch = data.dev.batch([0])
    written = policy.model.generate(
        pixel_values=batch.source.values,
        decoder_input_ids=torch.tensor([[*codec.prefix, codec.target.bos]]),
        generation_config=policy.generation_settings,
    )[0, 2:].tolist()
    eos = codec.target.eos
    written = written[: written.index(eos)] if eos in written else written
    assert greedy(policy, batch.source).lists(eos)[0] == written
    with pytest.raises(DataError, match=r"^prefix is '<s_invoice>', which the tokenizer does not"):
        settings.load(image_task(images, prefix="<s_invoice>"))


@pytest.mark.parametrize("media", ["image", "audio"])
def test_a_model_that_was_not_trained_here(media, images, sounds, tmp_path):
    save, data, make = {
        "image": (save_donut, images, image_task),
        "audio": (save_whisper, sounds, speech_task),
    }[media]
    path = save(tmp_path / "model")
    found = load_measured(path, None, str(data))
    assert found.task.name == make(data).name
    assert sorted(found.examples.texts) == sorted(TEXTS)
    # Whatever freerun trains reads the same rows, with the same tokens and prefix.
    codec = PretrainedSettings(path=path).load(make(data)).codec
    assert (found.codec.prefix, found.codec.target) == (codec.prefix, codec.target)
    model = load(path, max_new_tokens=3)
    files = [str(data / name) for name in NAMES[media]]
    assert all(len(each.tokens) <= 3 for each in model.predict(files))
    with pytest.raises(SettingError, match=r"^--data is missing: .* folder of images or sounds$"):
        load_measured(path, None, None)


NAMES = {"image": ["0.png", "1.png"], "audio": ["0.wav", "1.wav"]}


def test_the_language_of_a_model_that_was_not_trained_here(images, sounds, tmp_path):
    path = save_whisper(tmp_path / "whisper")
    GenerationConfig(is_multilingual=True).save_pretrained(path)
    with pytest.raises(DataError, match=r"it is multilingual; .* \(--language en to evaluate or"):
        load(path)
    codec = load(path, language="de").codec
    names = codec.tokenizer.convert_ids_to_tokens([*codec.prefix, codec.target.bos])
    assert names == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    assert load_measured(path, None, str(sounds), "de").codec.prefix == codec.prefix
    with pytest.raises(SettingError, match=r"^language does not apply: it is that of sounds"):
        load_measured(save_donut(tmp_path / "donut"), None, str(images), "de")


def test_the_pooler_that_files_of_trocr_lack(tmp_path):
    model = tiny_media_model("vit-trocr", dtype=torch.float32)
    assert model.encoder.pooler is None  # so its weights are not in the file, ...
    path = str(tmp_path)
    model.save_pretrained(path)
    assert load_model(path).encoder.pooler is None  # ... though AutoModel makes one
