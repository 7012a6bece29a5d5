"""Whether a trained model can be decoded as it was asked for."""

from __future__ import annotations

from freerun.evaluate import Decoding, check_decoding
from freerun.policy import Policy
from freerun.settings import SettingError
from freerun.tasks import Examples


def check_decodable(policy: Policy, examples: Examples, decoding: Decoding) -> None:
    """See that a model can be decoded so.

    Raises:
        SettingError: where it cannot.
    """
    try:
        check_decoding(policy, examples, decoding)
    except ValueError as error:
        raise SettingError(f"decoding: {error}") from None
