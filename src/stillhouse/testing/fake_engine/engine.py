"""
Launches the fake engine: faults and load on demand, without a model.

The engine is a real child process that speaks the real protocol, and whose answers are words chosen
by hashing. Penalties are checked and change nothing, log probabilities are made up, grammars are
refused; `sequence.FakeSequence` gives the details. With it, tests run the gateway under faults that
a sound engine does not show (crash at token k, hang, ignored cancel, wrong counts), measure it
without a model's own cost, and check it against a witness: a log of every token that was made,
which no gateway code writes. It is never served by default; a server that is configured with it
logs so.
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
    Returns the fake engine, not started, with the faults that *settings* name.

    Args:
        model: The model's name in the log.
        timeouts: The timeouts of the supervisor.

    """
    structlog.get_logger().warning("fake_engine", meaning="answers are noise, not a model's")
    command = [sys.executable, "-m", WORKER_MODULE, settings.to_json()]
    return WorkerEngine(command, model=model, timeouts=timeouts)
