"""What methods compute is what they computed when it was recorded.

The figures are of the code before its packages were ordered anew; those of BLEU and GLEU are newer,
as nothing against nothing costs 0 since then, and a batch has a target of eos alone. Those of
losses are in double precision on weights, batches and clocks that come from no generator; those of
runs are in float32.
"""

import json

import pytest

from tests.recorded import cases

LOSSES, RUNS = (json.loads(path.read_text("utf-8")) for path in (cases.LOSSES, cases.RUNS))
IN_FLOAT32 = ("llama", "t5")
"""The models of transformers that norm, turn or weigh in float32 whatever their weights are."""


def test_every_case_is_recorded():
    assert list(LOSSES) == list(cases.CASES)
    assert list(RUNS) == list(cases.RUN)


@pytest.mark.sample(80)
@pytest.mark.parametrize("case", cases.CASES)
def test_losses_are_as_recorded(case):
    policy = cases.CASES[case][2]
    tolerance = 1e-4 if policy.startswith(IN_FLOAT32) else 1e-9
    found = cases.losses(case)
    assert len(found) == len(LOSSES[case])
    for update, (now, before) in enumerate(zip(found, LOSSES[case], strict=True)):
        assert now["count"] == before["count"], f"update {update}"
        assert now["total"] == pytest.approx(before["total"], rel=tolerance, abs=1e-12)
        assert now["metrics"] == pytest.approx(before["metrics"], rel=tolerance, abs=1e-12)
        now, before = now["gradient"], before["gradient"]
        assert now.keys() == before.keys()
        for name, (norm, product) in before.items():
            # A gradient that is 0 in theory is what rounding leaves of larger ones.
            largest = max(norm for norm, _ in before.values())
            bound = tolerance * max(norm, 1e-3 * largest) + 1e-12
            assert now[name] == pytest.approx([norm, product], rel=0, abs=bound), name


@pytest.mark.sample(12)
@pytest.mark.parametrize("case", cases.RUN)
def test_runs_are_as_recorded(case, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # where they were recorded
    now, before = cases.run(case, tmp_path), RUNS[case]
    assert now["loss"] == pytest.approx(before["loss"], rel=1e-4)
    assert now["dev"] == pytest.approx(before["dev"], rel=1e-4, abs=1e-6)
