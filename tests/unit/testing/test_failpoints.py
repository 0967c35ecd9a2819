from __future__ import annotations

import subprocess
import sys

import pytest

from stillhouse.testing.failpoints import EXIT_CODE

PROGRAM = """
import sys
from stillhouse.failpoint import failpoint
from stillhouse.testing.failpoints import arm
if sys.argv[1]:
    arm(sys.argv[1])
for n in range(1, 4):
    failpoint("here")
    failpoint("there")
    print(n, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "printed", "exit_code"),
    [("", 3, 0), ("here", 0, EXIT_CODE), ("there:2", 1, EXIT_CODE), ("here:4", 3, 0)],
)
def test_a_process_ends_at_the_armed_point(armed, printed, exit_code):
    """The process ends at the pass of the point that is armed, and nowhere else."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, armed], capture_output=True, check=False)
    assert (printed, exit_code) == (len(done.stdout.splitlines()), done.returncode)
