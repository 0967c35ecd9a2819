"""
Ends the process at a named point, so that tests can have every crash on demand.

``STILLHOUSE_FAILPOINT=after-commit:3`` ends the process, as kill -9 does, when it passes the point
``after-commit`` for the third time.
"""

from __future__ import annotations

import itertools
import os

from stillhouse.failpoint import on_failpoint

VARIABLE = "STILLHOUSE_FAILPOINT"
EXIT_CODE = 137  # the status that a shell reports for SIGKILL


def arm(setting: str) -> None:
    """Arms the point that *setting* names: ``NAME`` or ``NAME:PASS``, the first pass being 1."""
    armed_name, _, armed_pass = setting.partition(":")
    passes = itertools.count(1)

    def end(name: str) -> None:
        if name == armed_name and next(passes) == int(armed_pass or 1):
            os._exit(EXIT_CODE)

    on_failpoint(end)
