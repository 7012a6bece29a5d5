"""Images and sounds: files decoded, and converted to what an encoder reads."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from freerun.errors import DataError
from freerun.imports import import_extra

Media = Literal["image", "audio"]

SUFFIXES: dict[Media, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm"),
    "audio": (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au"),
}
"""The extensions of files that `freerun predict` takes as one source."""

MIN_SECONDS = 0.02
"""The length of the shortest sound in seconds: shorter ones have no frame."""
SILENCE = 1e-4
"""The largest amplitude of silence, -80 dB of full scale."""

HEADER = 8
"""The number of bytes of the header of a chunk."""
UNKNOWN_SIZE = 2**31 - 2**16
"""Sizes from here on say that the size was not known."""
MP3_FRAME = 1152
"""The number of samples of a frame of MP3."""
_SIZES = r"^ *(?:RIFF|RIFX|Riff size|FORM|data|SSND|Data size) *: (\d+) \(should be (\d+)\)"


@dataclass(frozen=True, eq=False)
class Processor:
    """Converts images or sounds to the inputs of an encoder.

    Args:
        media: `image` or `audio`.
        inner: the image processor or feature extractor of transformers.
    """

    media: Media
    inner: Any

    @classmethod
    def load(cls, media: Media, path: str) -> Processor:
        """Load the processor of the model at `path`. No code of its own is run.

        Raises:
            DataError: if there is none, or it cannot be read.
        """
        from transformers import AutoFeatureExtractor, AutoImageProcessor

        try:
            if media == "image":
                import_extra("PIL", "images", "reading images")
                # The same pixels whether torchvision is installed or not.
                options = {"backend": "pil", "trust_remote_code": False}
                return cls(media, AutoImageProcessor.from_pretrained(path, **options))
            return cls(media, AutoFeatureExtractor.from_pretrained(path, trust_remote_code=False))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: there is no processor of {media} beside the model that can be read: "
                f"preprocessor_config.json or processor_config.json ({reason:.200})"
            ) from None

    @classmethod
    def for_images(cls, height: int, width: int) -> Processor:
        """Return a processor that resizes images, and scales white to 0 and black to -2.

        On white paper most of an image is 0, then, and does not drown positions.
        """
        import_extra("PIL", "images", "reading images")
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

        size, white, scale = {"height": height, "width": width}, [1.0] * 3, [0.5] * 3
        return cls("image", ViTImageProcessorPil(size=size, image_mean=white, image_std=scale))

    @classmethod
    def for_audio(cls, seconds: int, bins: int) -> Processor:
        """Return a processor that makes the log-mel spectrogram of Whisper.

        Args:
            seconds: the length of every source; shorter sounds are followed by silence.
            bins: the number of mel bins.
        """
        from transformers import WhisperFeatureExtractor

        inner = WhisperFeatureExtractor(feature_size=bins, chunk_length=seconds)
        return cls("audio", inner)

    def read(self, value: object, where: str) -> Float[np.ndarray, "..."]:
        """Return what the encoder reads: `pixel_values`, `input_features` or `input_values`.

        Args:
            value: a path; or the contents of a file, as `datasets` stores them: a mapping with
                `bytes` or `path`; or a decoded image (of pillow) or sound: a mapping with `array`
                and `sampling_rate`.
            where: the name of the row in messages.

        Raises:
            DataError: if it cannot be read, or a sound is too short, too long or silent.
            MissingExtraError: if the library that decodes it is not installed.
        """
        if self.media == "image":
            found = self.inner(images=read_image(value, where), return_tensors="np")
        else:
            wave = read_audio(value, self.inner.sampling_rate, where)
            self._check_length(wave, f"{where}: {_find_name(value, 'the sound')}")
            rate = self.inner.sampling_rate
            found = self.inner(wave, sampling_rate=rate, return_tensors="np")
        values = np.asarray(found[self.inner.model_input_names[0]][0], dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"{where}: the {self.media} has values that are not finite")
        return values

    def _check_length(self, wave: Float[np.ndarray, "_"], name: str) -> None:
        most, rate = getattr(self.inner, "n_samples", None), self.inner.sampling_rate
        if most is not None and len(wave) > most:
            raise DataError(
                f"{name} takes {len(wave) / rate:.1f} s, but the model reads at most "
                f"{most / rate:.0f} s"
            )

    def save_pretrained(self, directory: str) -> None:
        """Write preprocessor_config.json into a folder."""
        self.inner.save_pretrained(directory)


def list_media(folder: str | Path, media: Media) -> list[str]:
    """Return the images or sounds in a folder and the folders in it, in the order of their names.

    Raises:
        DataError: if there are none.
    """
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    found = sorted(str(path) for path in files if path.suffix.lower() in SUFFIXES[media])
    if not found:
        what = "images" if media == "image" else "sounds"
        raise DataError(f"{folder}: no {what} are in it; they end in {', '.join(SUFFIXES[media])}")
    return found


def read_image(value: object, where: str) -> Any:
    """Return an image of pillow in RGB, on white where it is transparent; 16 bits become 8.

    Raises:
        DataError: if it cannot be read. The message names the row and the file.
    """
    image = import_extra("PIL.Image", "images", "reading images")
    ops = import_extra("PIL.ImageOps", "images", "reading images")
    if isinstance(value, image.Image):
        return _convert_to_rgb(ops.exif_transpose(value), f"{where}: the image")
    source, name = _open(value, where, "image")
    try:
        with image.open(source) as found:
            return _convert_to_rgb(ops.exif_transpose(found), f"{where}: {name}")
    # What pillow raises for damaged files, of which some look too large.
    except (OSError, ValueError, SyntaxError, EOFError, image.DecompressionBombError) as error:
        reason = "it is not an image" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{where}: {name} cannot be read as an image ({reason})") from None


def _convert_to_rgb(image: Any, name: str) -> Any:
    """Return an image in RGB, on white where it is transparent.

    pillow itself would cut 16 bits off at 255, and show the color beneath, which is mostly black.
    """
    if image.mode[0] in "IF":
        pixels = np.asarray(image)
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65_535:
            raise DataError(f"{name} has pixels of 32 bits; save it with 8 or 16 bits")
        library = import_extra("PIL.Image", "images", "reading images")
        return library.fromarray((pixels // 257).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = image.copy()
    white.paste((255, 255, 255, 255), (0, 0, *image.size))
    white.alpha_composite(image)
    return white.convert("RGB")


def read_audio(value: object, rate: int, where: str) -> Float[np.ndarray, "_"]:
    """Return the samples of a sound, the mean of its channels, at `rate` samples per second.

    Raises:
        DataError: if it cannot be read, or is too short or silent. The message names row and file.
    """
    if isinstance(value, Mapping) and value.get("array") is not None:
        found, given, name = _read_samples(value["array"], where), value.get("sampling_rate"), "it"
        numbers = int | float | np.integer
        own = int(given) if isinstance(given, numbers) and 1 <= given < math.inf else 0
        if not own or own != given:
            raise DataError(f"{where}: its sampling_rate is {given!r:.20}; it must be in hertz")
        wave = found if found.ndim == 1 else found.mean(0)
    else:
        library = import_extra("soundfile", "audio", "reading sounds")
        source, name = _open(value, where, "sound")
        try:
            with library.SoundFile(source) as file:
                channels, own = file.read(dtype="float32", always_2d=True), file.samplerate
                _check_complete(len(channels), file.frames, file.extra_info, f"{where}: {name}")
        except (library.SoundFileError, OSError) as error:
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            raise DataError(f"{where}: {name} cannot be read as a sound ({reason})") from None
        wave = channels.mean(1)
    if len(wave) < MIN_SECONDS * own:
        raise DataError(
            f"{where}: {name} takes {1000 * len(wave) / own:.0f} ms; a sound has at least "
            f"{1000 * MIN_SECONDS:.0f} ms"
        )
    if not np.isfinite(wave).all():
        raise DataError(f"{where}: {name} has samples that are not finite")
    if float(np.abs(wave).max()) < SILENCE:
        raise DataError(f"{where}: {name} is silent")
    if own == rate:
        return wave
    resample = import_extra("soxr", "audio", "converting the sampling rate of sounds").resample
    converted: Float[np.ndarray, "_"] = resample(wave, own, rate)
    return converted


def _read_samples(array: object, where: str) -> Float[np.ndarray, "..."]:
    """Return samples in [-1, 1], as they are in files; whole numbers have the range of their type.

    Raises:
        DataError: if they are whole numbers whose type does not say their range.
    """
    found = np.asarray(array)
    if found.dtype.kind not in "iu":
        return found.astype(np.float32)
    if found.dtype.itemsize > 4:
        raise DataError(
            f"{where}: its samples are whole numbers of an unknown range; give them as int16, or "
            "as numbers in [-1, 1]"
        )
    limits = np.iinfo(found.dtype)
    middle = (int(limits.max) + int(limits.min) + 1) // 2  # of unsigned numbers
    return ((found.astype(np.float64) - middle) / (int(limits.max) + 1 - middle)).astype(np.float32)


def _check_complete(read: int, frames: int, log: str, name: str) -> None:
    """Check that a sound is as long as its header says; libsndfile reads what there is.

    Args:
        read: the number of samples of a channel that were read.
        frames: the number that there should be, which MP3 rounds to its frames.
        log: what libsndfile notes on the file.
        name: the name of the file in messages.

    Raises:
        DataError: if it is truncated.
    """
    for size, there in re.findall(_SIZES, log, re.IGNORECASE | re.MULTILINE):
        # Programs that write to a pipe put the largest number there, and some count the header.
        if int(there) + HEADER < int(size) < UNKNOWN_SIZE:
            raise DataError(f"{name} is truncated: {there} of {size} bytes are there")
    if "lacks an end-of-stream bit" in log and "Junk after the last page" in log:  # Ogg
        raise DataError(f"{name} is truncated: its last page is incomplete")
    if read < frames - MP3_FRAME:
        raise DataError(f"{name} is truncated: {read} of {frames} samples are there")


def _find_name(value: object, otherwise: str) -> str:
    """Return the path of a file, for messages."""
    found = value.get("path") if isinstance(value, Mapping) else value
    return str(found) if isinstance(found, str | PathLike) and str(found) else otherwise


def _open(value: object, where: str, what: str) -> tuple[Any, str]:
    """Return the path or the contents of a file, and its name for messages."""
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return BytesIO(value["bytes"]), _find_name(value, f"the {what}")
    if isinstance(value, Mapping):
        value = value.get("path")
    if not isinstance(value, str | PathLike) or not str(value):
        raise DataError(
            f"{where}: the {what} is {value!r:.40}; it must be the path of a file, or a column of "
            "the type Image or Audio of the library datasets"
        )
    if not Path(value).is_file():
        raise DataError(f"{where}: {value}: there is no such file")
    return str(value), str(value)
