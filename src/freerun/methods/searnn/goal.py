"""What a search is after: a cost, and the reference policy that suits it."""

from __future__ import annotations

from freerun.costs import Cost, named_cost
from freerun.methods.searnn.settings import SearchSettings
from freerun.references import FITTING, Reference, named_reference
from freerun.vocabulary import Vocabulary

OF_EQUAL_LENGTHS = ("hamming", "hamming_total")
TO_THE_LENGTH = ("copy", "max_f1")


def goal_of(settings: SearchSettings, vocabulary: Vocabulary) -> tuple[Cost, Reference]:
    """The cost and the reference policy for outputs of this vocabulary.

    Raises:
        ValueError: where one is missing, or they do not suit each other or the vocabulary.
    """
    cost, reference = settings.cost, settings.reference
    if cost is None:
        raise ValueError("SEARNN.cost is None: name a cost; training by a task takes the task's")
    symbols, unknown = vocabulary.symbols, vocabulary.unknown
    if isinstance(cost, str):
        reference = reference or FITTING[cost]
        if vocabulary.eos is not None and cost in OF_EQUAL_LENGTHS:
            raise ValueError(
                f"cost={cost} compares equal lengths, but these outputs end in eos, at any "
                "length: take edit_distance"
            )
        cost = named_cost(cost, symbols, unknown)
    if not settings.taught:
        reference = "copy"  # never asked
    if reference is None:
        raise ValueError("SEARNN.reference is None: name the policy that suits your own cost")
    if vocabulary.eos is None and reference not in TO_THE_LENGTH:
        raise ValueError(
            f"reference={reference} ends at any length, but these outputs are as long as their "
            f"sources: take {' or '.join(TO_THE_LENGTH)}"
        )
    return cost, named_reference(reference, symbols, unknown)
