"""A small number of the cases that `make fuzz` runs."""

import subprocess
import sys


def test_damaged_and_hostile_input_is_refused_or_makes_no_difference():
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "20", "--workers", "1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
