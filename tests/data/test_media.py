"""Images and sounds: what is read is what the files hold, and what is wrong is named."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import Speech2TextFeatureExtractor, Wav2Vec2FeatureExtractor

from freerun.data import DataError, MediaCodec, load_codec, media_codec
from freerun.data.media import Processor, list_media, read_audio, read_image

RATE = 8000
WAVE = 0.5 * np.sin(np.arange(800) * 0.3).astype(np.float32)
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.fixture
def sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE, RATE, subtype="FLOAT")
    return str(tmp_path / "a.wav")


def contents(path):
    with open(path, "rb") as file:
        return {"bytes": file.read(), "path": None}


FORMATS = ["wav", "aiff", "au", "w64", "rf64", "mp3", "flac", "ogg", "caf"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_sound_is_refused(suffix, tmp_path):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    wave = np.tile(WAVE, 150)
    soundfile.write(whole, wave, RATE, format=suffix.upper())
    assert abs(len(read_audio(str(whole), RATE, "row 0")) - len(wave)) < 1152
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"^row 0: {cut} (is truncated|cannot be read as a sound)"):
        read_audio(str(cut), RATE, "row 0")


def test_the_message_on_a_truncated_wav(sound, tmp_path):
    Path(sound).write_bytes(Path(sound).read_bytes()[:-1200])
    message = rf"^row 0: {sound} is truncated: \d+ of \d+ bytes are there$"
    with pytest.raises(DataError, match=message):
        read_audio(sound, RATE, "row 0")


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_does_not_know_its_size(size, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVE, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    for at in (4, content.index(b"data") + 4):
        content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    if size:  # libsndfile takes 0 at its word
        assert len(read_audio(str(path), RATE, "row 0")) == len(WAVE)
    else:
        with pytest.raises(DataError, match="takes 0 ms"):
            read_audio(str(path), RATE, "row 0")


def test_an_image_by_path_by_contents_or_as_it_is(image):
    for value in (image, contents(image), {"bytes": None, "path": image}, Image.open(image)):
        assert np.array_equal(np.asarray(read_image(value, "row 0")), PIXELS)


INK = np.array([[0, 255], [128, 7]], np.uint8)


def show_through(mode):
    """Black ink of which the opacity is what white lacks."""
    drawn = Image.fromarray(np.stack([0 * INK, 255 - INK], -1))
    return drawn if mode == "LA" else drawn.convert(mode)


@pytest.mark.parametrize(
    "made",
    [
        Image.fromarray(INK.astype(np.uint16) * 257),
        Image.fromarray(INK.astype(np.int32) * 257),
        show_through("LA"),
        show_through("RGBA"),
    ],
    ids=lambda made: made.mode,
)
def test_depth_and_transparency_are_kept_as_brightness(made, tmp_path):
    made.save(tmp_path / "a.tif")
    for value in (made, str(tmp_path / "a.tif")):
        found = read_image(value, "row 0")
        assert found.mode == "RGB"
        assert np.array_equal(np.asarray(found), np.stack([INK] * 3, -1))


def test_a_palette_with_a_transparent_color(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.save(tmp_path / "a.png", transparency=0)
    found = np.asarray(read_image(str(tmp_path / "a.png"), "row 0"))
    assert found[0, :, 0].tolist() == [255, 0]


def test_pixels_of_unknown_range():
    message = r"^row 3: the image has pixels of 32 bits; save it with 8 or 16 bits$"
    for pixels in (INK.astype(np.float32), INK.astype(np.int32) * 300):
        with pytest.raises(DataError, match=message):
            read_image(Image.fromarray(pixels), "row 3")


def test_a_sound_by_path_by_contents_or_as_samples(sound):
    samples = {"array": WAVE.astype(np.float64), "sampling_rate": RATE}
    for value in (sound, contents(sound), samples):
        assert np.array_equal(read_audio(value, RATE, "row 0"), WAVE)


def test_channels_are_averaged_and_the_rate_is_converted(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([WAVE, 0 * WAVE], 1), RATE, subtype="FLOAT")
    found = read_audio(str(path), 2 * RATE, "row 0")
    assert len(found) == 1600
    middle = slice(200, -200)  # away from the ends
    assert np.abs(found[::2][100:-100] - WAVE[100:-100] / 2).max() < 1e-3
    assert np.abs(found[middle]).max() < 0.26


@pytest.mark.parametrize(
    ("samples", "scale"),
    [
        (np.int8([-128, 0, 64]), [-1, 0, 0.5]),
        (np.int16([-32768, 0, 16384]), [-1, 0, 0.5]),
        (np.int32([-(2**31), 0, 2**30]), [-1, 0, 0.5]),
        (np.uint8([0, 128, 192]), [-1, 0, 0.5]),
        (np.uint16([0, 32768, 49152]), [-1, 0, 0.5]),
        (np.float64([-1, 0, 0.5]), [-1, 0, 0.5]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
@pytest.mark.parametrize("rate", [RATE, np.int64(RATE), float(RATE)])
def test_samples_have_the_range_of_their_type(samples, scale, rate):
    found = read_audio({"array": np.tile(samples, 300), "sampling_rate": rate}, RATE, "row 0")
    assert found.dtype == np.float32
    assert found.tolist() == scale * 300


@pytest.mark.parametrize("size", [np.int16, np.int32])
def test_whole_numbers_are_read_as_from_a_file(tmp_path, size):
    samples = (WAVE.astype(np.float64) * np.iinfo(size).max).astype(size)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, samples, RATE, subtype=f"PCM_{8 * samples.itemsize}")
    found = read_audio({"array": samples, "sampling_rate": RATE}, RATE, "row 0")
    assert np.array_equal(found, read_audio(path, RATE, "row 0"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"array": np.arange(800), "sampling_rate": RATE},
         "its samples are whole numbers of an unknown range; give them as int16, or as numbers in "
         "[-1, 1]"),
        ({"array": WAVE}, "its sampling_rate is None; it must be in hertz"),
        ({"array": WAVE, "sampling_rate": 0}, "its sampling_rate is 0; it must be in hertz"),
        ({"array": WAVE, "sampling_rate": "8k"}, "its sampling_rate is '8k'; it must be in hertz"),
        ({"array": WAVE, "sampling_rate": 0.5}, "its sampling_rate is 0.5; it must be in hertz"),
        ({"array": WAVE, "sampling_rate": np.nan}, "its sampling_rate is nan; it must be in hertz"),
    ],
)  # fmt: skip
def test_samples_whose_range_or_rate_is_unknown(refuses, given, message):
    refuses(f"row 3: {message}", read_audio, given, RATE, "row 3")


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_an_image_is_turned_as_it_says(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    path = str(tmp_path / "a.png")
    for value in (path, contents(path), Image.open(path)):
        found = np.asarray(read_image(value, "row 0"))
        assert np.array_equal(found, np.rot90(PIXELS, turns))


def damaged(tmp_path, name, raw):
    (tmp_path / name).write_bytes(raw)
    return str(tmp_path / name)


def test_broken_files_are_named(tmp_path, image):
    with pytest.raises(DataError, match=r"^row 3: .*/none\.png: there is no such file$"):
        read_image(str(tmp_path / "none.png"), "row 3")
    path = damaged(tmp_path, "b.png", b"no image")
    with pytest.raises(
        DataError, match=r"^row 3: .*/b\.png cannot be read .*\(it is not an image\)$"
    ):
        read_image(path, "row 3")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(image)
    with open(image, "rb") as file:
        path = damaged(tmp_path, "c.png", file.read()[:2000])
    with pytest.raises(DataError, match=r"^row 3: .*/c\.png cannot be read as an image \("):
        read_image(path, "row 3")
    path = damaged(tmp_path, "b.wav", b"no sound")
    with pytest.raises(DataError, match=r"^row 3: .*/b\.wav cannot be read as a sound \("):
        read_audio(path, RATE, "row 3")
    with pytest.raises(DataError, match=r"^row 3: the image is 7; it must be the path of a file"):
        read_image(7, "row 3")


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (WAVE[:100], "it takes 12 ms; a sound has at least 20 ms"),
        (0.0001 * WAVE, "it is silent"),
        (np.where(np.arange(800) == 3, np.nan, WAVE), "it has samples that are not finite"),
    ],
)
def test_sounds_that_say_nothing(wave, message):
    with pytest.raises(DataError, match=rf"^row 3: {message}$"):
        read_audio({"array": wave, "sampling_rate": RATE}, RATE, "row 3")


def test_a_sound_that_whisper_would_cut_off_is_refused():
    long = {"array": np.tile(WAVE, 30), "sampling_rate": RATE}
    processor = Processor.for_audio(2, 8)
    with pytest.raises(
        DataError, match=r"^row 3: the sound takes 3\.0 s, but the model reads at most 2 s$"
    ):
        processor.read(long, "row 3")
    with pytest.raises(DataError, match=r"^row 3: a\.wav takes 3\.0 s, but"):
        processor.read({**long, "path": "a.wav"}, "row 3")
    assert processor.read({"array": WAVE, "sampling_rate": RATE}, "row 3").shape == (8, 200)


def rows_of(image, *texts):
    return [{"image": image, "target": text} for text in texts]


def codec_for(rows, **settings):
    processor = Processor.for_images(4, 6)
    return MediaCodec.learn(rows, [], target_tokens="characters", processor=processor, **settings)


def test_a_batch_has_scaled_pixels_and_targets(image):
    rows = rows_of(image, "ab", "b")
    codec = codec_for(rows)
    batch = codec.encode(rows).batch([1, 0])
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1) / 127.5 - 2
    torch.testing.assert_close(batch.source.values, expected.expand(2, -1, -1, -1))
    assert batch.source.mask.all()
    assert [codec.decode(row) for row in batch.target.tolist()] == ["b", "ab"]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]


def test_sources_that_do_not_fit_into_memory_are_read_again(image, monkeypatch):
    rows = rows_of(image, "ab", "b", "a")
    codec = codec_for(rows)
    kept = codec.encode(rows).batch([2, 0])
    monkeypatch.setattr(media_codec, "MAX_KEPT_BYTES", 300)  # one of them
    found = codec.encode(rows)
    assert torch.equal(found.batch([2, 0]).source.values, kept.source.values)
    assert torch.equal(found.take(1).batch([0]).source.values, kept.source.values[1:])
    Image.fromarray(255 - PIXELS).save(image)
    assert not torch.equal(found.batch([2]).source.values, kept.source.values[:1])


def test_sounds_of_different_lengths_are_padded():
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=False)
    waves = [{"array": WAVE[:n], "sampling_rate": RATE} for n in (200, 500)]
    rows = [{"audio": wave, "target": "a"} for wave in waves]
    processor = Processor("audio", extractor)
    codec = MediaCodec.learn(rows, [], target_tokens="characters", processor=processor)
    source = codec.encode(rows).batch([0, 1]).source
    assert source.lengths.tolist() == [200, 500]
    assert torch.equal(source.values[1], torch.from_numpy(WAVE[:500]))
    assert not source.values[0, 200:].any()


def test_rows_that_cannot_be_used_are_left_out_if_asked(tmp_path, image):
    rows = rows_of(image, "ab", "b", "a")
    rows[1]["image"] = damaged(tmp_path, "b.png", b"no image")
    message = "the data, row 1: .* cannot be read as an image (it is not an image)"
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(DataError, match=f"^{pattern}; unusable=drop leaves such rows out$"):
        codec_for(rows).encode(rows)
    found = codec_for(rows, unusable="drop").encode(rows)
    assert list(found.texts) == ["ab", "a"]
    (note,) = found.notes
    assert re.fullmatch(f"1 of 3 rows were left out: {pattern}", note)
    torch.testing.assert_close(found.batch([1]).source.values, found.batch([0]).source.values)


def test_a_saved_codec_reads_the_same(tmp_path, image, sound):
    rows = rows_of(image, "ab")
    codec_for(rows).save_pretrained(str(tmp_path / "codec"))
    found = load_codec(str(tmp_path / "codec")).encode(rows).batch([0])
    assert torch.equal(found.source.values, codec_for(rows).encode(rows).batch([0]).source.values)
    extractor = Speech2TextFeatureExtractor(feature_size=4, num_mel_bins=4, sampling_rate=RATE)
    rows = [{"audio": sound, "target": "a"}]
    codec = MediaCodec.learn(
        rows, [], target_tokens="characters", processor=Processor("audio", extractor), prefix=(0,)
    )
    codec.save_pretrained(str(tmp_path / "codec"))
    loaded = load_codec(str(tmp_path / "codec"))
    assert loaded.prefix == (0,)
    expected = codec.encode(rows).batch([0]).source.values
    assert expected.shape[2] == 4
    assert torch.equal(loaded.encode(rows).batch([0]).source.values, expected)


def test_lines_to_predict_are_paths_or_objects(tmp_path, image, monkeypatch):
    codec = codec_for(rows_of(image, "ab"))
    monkeypatch.chdir(tmp_path)
    sources = codec.read(["a.png", '{"file_name": "a.png"}'], str(tmp_path / "list.txt"))
    assert len(sources) == 2
    assert list(sources.lines) == [["a.png"], ['{"file_name": "a.png"}']]
    with pytest.raises(DataError, match=r"list\.txt, line 1: b\.png: there is no such file$"):
        codec.read(["b.png"], "list.txt")
    with pytest.raises(DataError, match=r"line 1: no column image, file_name, file or path; it"):
        codec.read(['{"text": "a"}'], "list.txt")


def test_sources_from_python(image):
    codec, opened = codec_for(rows_of(image, "ab")), Image.open(image)
    given = [image, Path(image), opened, {"file": image}, {"image": opened}, contents(image)]
    rows = [codec.name_source(value, "source 1") for value in given]
    values = codec.encode_sources(rows).batch(range(6)).source.values
    assert torch.equal(values, values[:1].expand_as(values))
    with pytest.raises(DataError, match=r"^source 1: no column image, file_name, file or path; it"):
        codec.name_source({"text": "a"}, "source 1")


def test_files_of_a_folder(tmp_path, image):
    (tmp_path / "more").mkdir()
    for name in ("b.txt", "more/c.JPG", "B.png"):
        (tmp_path / name).touch()
    names = [f"{tmp_path}/{name}" for name in ("B.png", "a.png", "more/c.JPG")]
    assert list_media(tmp_path, "image") == names
    with pytest.raises(DataError, match=r"more: no sounds are in it; they end in \.wav, \.flac,"):
        list_media(tmp_path / "more", "audio")


def test_an_image_of_the_datasets_library(image):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    value = {"bytes": buffer.getvalue(), "path": "x.png"}
    assert Processor.for_images(4, 6).read(value, "row 0").shape == (3, 4, 6)
