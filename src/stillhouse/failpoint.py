"""
Named places at which a test lets the process die, so that every crash can be had on demand.

``STILLHOUSE_FAILPOINT=after-commit:3`` ends the process, as kill -9 would, when it passes the place
called ``after-commit`` for the third time. The variable is read once; unset, a place costs one
comparison.
"""

from __future__ import annotations

import itertools
import os

VARIABLE = "STILLHOUSE_FAILPOINT"
EXIT_CODE = 137  # a shell's word for killed by SIGKILL

_armed_name, _, _armed_pass = os.environ.get(VARIABLE, "").partition(":")
_passes = itertools.count(1)


def failpoint(name: str) -> None:
    """Die here, without a word to anybody, if this is the place and the pass that is asked for."""
    if name == _armed_name and next(_passes) == int(_armed_pass or 1):
        os._exit(EXIT_CODE)
