"""Data: rows, codecs that encode them as examples, files and splits."""

from freerun.data.base import Data, Examples, Sources, Splits
from freerun.data.codec import (
    CODEC_FILE,
    Codec,
    WritingCodec,
    load_codec,
    read_codec_file,
)
from freerun.data.collator import TextCollator
from freerun.data.examples import TextExamples
from freerun.data.factor_codec import FactorCodec
from freerun.data.feature_codec import FeatureCodec
from freerun.data.media_codec import MediaCodec
from freerun.data.rows import ROW_COLUMNS, Row
from freerun.data.store import Augmentation
from freerun.data.text_codec import TextCodec
from freerun.data.tokens import Tokens, add_backspace_token
from freerun.data.truncation import Truncation
from freerun.errors import DataError
from freerun.imports import MissingExtraError

__all__ = [
    "CODEC_FILE",
    "ROW_COLUMNS",
    "Augmentation",
    "Codec",
    "Data",
    "DataError",
    "Examples",
    "FactorCodec",
    "FeatureCodec",
    "MediaCodec",
    "MissingExtraError",
    "Row",
    "Sources",
    "Splits",
    "TextCodec",
    "TextCollator",
    "TextExamples",
    "Tokens",
    "Truncation",
    "WritingCodec",
    "add_backspace_token",
    "load_codec",
    "read_codec_file",
]
