"""The embedded engine's process: `python -m stillhouse.engines.openvino.worker SETTINGS SOCKET`."""

from __future__ import annotations

import sys

from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.settings import EngineSettings
from stillhouse.engines.worker.loop import run_worker


def main(settings_json: str, socket_number: str) -> None:
    """Serves what the settings name."""
    settings = EngineSettings.from_json(settings_json)
    run_worker(lambda on_progress: load_runner(settings, on_progress), socket_number)


if __name__ == "__main__":
    main(*sys.argv[1:])
