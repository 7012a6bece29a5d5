"""The contents of a results.json, of figures chosen by hand."""

import pytest

from freerun.evaluation import estimate, estimate_difference
from freerun.report import summary

NAMES = ("mle", "scheduled_sampling:schedule=linear,k=0.9", "differentiable_scheduled_sampling")


@pytest.fixture
def results():
    """Three methods, two seeds, two metrics; errors of 0.10, 0.08 and 0.06 and their neighbours."""
    methods = {}
    for i, name in enumerate(NAMES):
        error = [0.10 - 0.02 * i, 0.12 - 0.02 * i]
        match = [0.8 + 0.05 * i, 0.7 + 0.05 * i]
        position = [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]]
        columns = [summary(column) for column in zip(*position, strict=True)]
        methods[name] = {
            "method": name.partition(":")[0],
            "settings": {},
            "test": {
                "character_error": estimate(error, None),
                "exact_match": estimate(match, None),
            },
            "difference_to_mle": {
                "character_error": estimate_difference([-0.02 * i, -0.02 * i], None),
                "exact_match": estimate_difference([0.04 * i, 0.06 * i], None),
            },
            "seconds_per_update": summary([0.01 * (i + 1)] * 2),
            "time_relative_to_mle": summary([1.0 + i, 1.0 + i]),
            "updates": [100, 100],
            "learning_curves": [
                [{"update": 50, "character_error": 0.5}, {"update": 100, "character_error": 0.1}],
                [{"update": 50, "character_error": 0.7}, {"update": 100, "character_error": 0.3}],
            ],
            "error_by_position": {
                "mean": [column["mean"] for column in columns],
                "std": [column["std"] for column in columns],
                "values": position,
                "count": [1000, 60, 49],
            },
        }
    return {
        "task": {"name": "digits", "metric": "character_error", "greater_is_better": False},
        "training": {"updates": 1200, "budget": None, "patience": None},
        "seeds": [0, 1],
        "base": "mle",
        "methods": methods,
        "majority": {"character_error": 0.776, "exact_match": 0.001},
    }
