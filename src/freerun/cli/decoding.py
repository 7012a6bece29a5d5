"""Whether a trained model can be decoded as it was asked for."""

from __future__ import annotations

from freerun.data import Examples
from freerun.evaluation import Decoding, check_decoding
from freerun.policy import Policy
from freerun.settings import SettingError


def check_decodable(policy: Policy, examples: Examples, decoding: Decoding) -> None:
    """See that a model can be decoded so.

    Raises:
        SettingError: where it cannot.
    """
    try:
        check_decoding(policy, examples, decoding)
    except ValueError as error:
        raise SettingError(f"decoding: {error}") from None
