"""Models of images and speech are resumed, trained in several processes, and get adapters."""

from functools import partial

import pytest
import safetensors.torch
import torch

from freerun.methods import MLE, ScheduledSampling
from freerun.models.settings import PretrainedSettings, Seq2SeqSettings
from freerun.training import TrainingSettings, fit, load_policy
from tests.helpers import searnn
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
from tests.training.children import at_update, together

MEDIA = ("image", "audio")
SEARCH = searnn(cost="edit_distance", roll_in="learned")


def make_data(folder, media):
    write, suffix = (write_image, ".png") if media == "image" else (write_sound, ".wav")
    return write_folder(folder / media, write, suffix, TEXTS)


def media_fit(output, media, data, method=SEARCH, model=None, training=(), **changes):
    """A few updates of a small model."""
    task = image_task(data) if media == "image" else speech_task(data)
    if model is None:
        patch = {"patch_size": 4} if media == "image" else {}
        model = Seq2SeqSettings(hidden_size=8, heads=2, layers=1, **patch, **changes)
    settings = {"updates": 4, "evaluate_every": 2, "batch_size": 4, "learning_rate": 0.01} | dict(
        training
    )
    return fit(
        task,
        model.load(task),
        method,
        model=model,
        training=TrainingSettings(**settings | dict(training), threads=1, seed=2),
        output=str(output),
        quiet=True,
    )


def read_weights(output):
    return safetensors.torch.load_file(output / "model.safetensors")


@pytest.mark.parametrize(
    ("media", "method"), [("image", SEARCH), ("audio", ScheduledSampling(feedback="sample"))]
)
def test_resumed_to_the_bit(tmp_path, monkeypatch, media, method):
    data = make_data(tmp_path, media)
    run = partial(media_fit, media=media, data=data, method=method, dropout=0.3)
    run(tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", torch.optim.Adam.step)
        at_update(torch.optim.Adam, 4, stop)
        with pytest.raises(StopError):
            run(tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoint-2").exists()
    run(tmp_path / "cut")
    whole, cut = ((tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("media", [pytest.param("image", marks=pytest.mark.slow), "audio"])
def test_two_processes_change_nothing(tmp_path, media):
    data = make_data(tmp_path, media)
    # Adam would scale gradients that are 0 but for rounding.
    sgd = {"optimizer": "sgd", "learning_rate": 0.1}
    run = partial(media_fit, media=media, data=data, dropout=0.0, training=sgd)
    assert together(2, run, tmp_path / "two") == [0, 0]
    run(tmp_path / "one")
    one, two = read_weights(tmp_path / "one"), read_weights(tmp_path / "two")
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["whisper", "donut", "vit-gpt2"])
def test_adapters_are_trained_and_loaded(tmp_path, kind):
    media = "audio" if kind == "whisper" else "image"
    data, base = make_data(tmp_path, media), tmp_path / "base"
    if kind == "vit-gpt2":  # trained by freerun, with transposed weights in the decoder
        media_fit(base, media, data, MLE(), training={"updates": 2})
    else:
        (save_whisper if kind == "whisper" else save_donut)(base)
    model = PretrainedSettings(path=str(base), lora=2)
    quick = {"updates": 2}
    run = media_fit(tmp_path / "run", media, data, MLE(), model=model, training=quick)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    policy, codec = load_policy(tmp_path / "run")
    suffix = ".wav" if media == "audio" else ".png"
    batch = codec.encode([{media: str(data / f"1{suffix}"), "target": "ab"}]).batch([0])
    inputs = batch.inputs(policy.vocabulary.bos)
    with torch.no_grad():
        found, expected, before = (
            each.force(batch.source, inputs).logits(batch.mask)
            for each in (policy, run.policy, PretrainedSettings(path=str(base)).build(codec).eval())
        )
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, before, atol=1e-4)
