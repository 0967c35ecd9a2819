"""The embedded engine as the gateway sees it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.engines.worker.engine import WorkerEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillhouse.engines.openvino.settings import EngineSettings
    from stillhouse.engines.worker.frames import Loading

WORKER_MODULE = "stillhouse.engines.openvino.worker"


def openvino_engine(
    settings: EngineSettings,
    *,
    model: str = "",
    on_progress: Callable[[Loading], None] | None = None,
    timeouts: SupervisionConfig | None = None,
) -> WorkerEngine:
    """
    Returns the embedded engine, not started, for the checkpoint that *settings* name.

    Args:
        model: What the log calls it.
        on_progress: Told how far the worker has loaded, also at every restart.
        timeouts: The timeouts of the supervisor.

    """
    command = [sys.executable, "-m", WORKER_MODULE, settings.to_json()]
    return WorkerEngine(command, model=model, on_progress=on_progress, timeouts=timeouts)
