"""
The fake engine as the gateway sees it: faults and load on demand, no model.

A real child process that speaks the real protocol, and whose answers are words drawn by hashing.
What has no meaning for such words (penalties) is checked and changes nothing, log probabilities
are made up, grammars are refused; `sequence.FakeSequence` says it in detail.
It is there so that the gateway can be tested under faults that a sound engine does not show
(crash at token k, hang, ignored cancel, wrong counts), measured without a model's own cost, and
checked against a witness: a log of every token that was made, which no gateway code writes. It is
never served by default; whoever configures it is told so in the log.
"""

from __future__ import annotations

import sys

import structlog

from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.testing.fake_engine.settings import FakeSettings

WORKER_MODULE = "stillhouse.testing.fake_engine.worker"


def fake_engine(
    settings: FakeSettings, *, model: str = "", timeouts: SupervisionConfig | None = None
) -> WorkerEngine:
    """
    Return the fake engine, not started, with the faults that *settings* name.

    Args:
        model: What the log calls it.
        timeouts: The timeouts of the supervisor.

    """
    structlog.get_logger().warning("fake_engine", meaning="answers are noise, not a model's")
    command = [sys.executable, "-m", WORKER_MODULE, settings.to_json()]
    return WorkerEngine(command, model=model, timeouts=timeouts)
