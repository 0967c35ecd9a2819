from __future__ import annotations

import subprocess
import sys

import pytest

from stillhouse.failpoint import EXIT_CODE, VARIABLE

PROGRAM = """
from stillhouse.failpoint import failpoint
for n in range(1, 4):
    failpoint("here")
    failpoint("there")
    print(n, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "printed", "exit_code"),
    [("", 3, 0), ("here", 0, EXIT_CODE), ("there:2", 1, EXIT_CODE), ("here:4", 3, 0)],
)
def test_a_process_dies_where_and_when_it_is_told_to(armed, printed, exit_code):
    """Death comes at the pass of the place that the variable names, and nowhere else."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={VARIABLE: armed}, capture_output=True, check=False
    )
    assert (printed, exit_code) == (len(done.stdout.splitlines()), done.returncode)
