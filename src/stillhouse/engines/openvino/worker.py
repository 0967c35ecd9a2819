"""The embedded engine's process: `python -m stillhouse.engines.openvino.worker SETTINGS SOCKET`."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from stillhouse.engines.frames import (
    Cancel,
    Generate,
    LoadFailed,
    LoadFailure,
    Ping,
    Pong,
    Ready,
    RefusalCode,
    Refused,
    Steps,
)
from stillhouse.engines.gateway_link import GatewayLink, live_and_die_with_parent
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.settings import EngineSettings
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
)

if TYPE_CHECKING:
    from stillhouse.engines.openvino.runner import Runner, SequenceSteps


class EngineLoop:
    """Takes what the gateway sends, steps while there is work, and sleeps when there is none."""

    def __init__(self, link: GatewayLink, runner: Runner) -> None:
        self._link = link
        self._runner = runner
        self._steps: SequenceSteps = []

    def run_forever(self) -> None:
        """Serve until the process ends with its gateway."""
        while True:
            self._receive(wait=not self._runner.has_work)
            if self._runner.has_work:
                self._steps += self._runner.step(self._receive)
            if self._steps:
                self._link.send(Steps(self._steps))
                self._steps = []

    def _receive(self, *, wait: bool = False) -> None:
        for message in self._link.receive(wait=wait):
            match message:
                case Generate():
                    self._add(message)
                case Cancel():
                    self._steps += self._runner.cancel(message.sequence_id)
                case Ping():
                    self._link.send(Pong(message.ping_id, self._runner.health))

    def _add(self, message: Generate) -> None:
        try:
            self._runner.add(message.sequence_id, message.request)
        except RequestTooLargeForEngineError as error:
            self._link.send(Refused(message.sequence_id, RefusalCode.TOO_LARGE, error.message))
        except InvalidRequestError as error:
            self._link.send(Refused(message.sequence_id, RefusalCode.INVALID, error.message))


def main(settings_json: str, socket_number: str) -> None:
    """Load what the settings name, tell the gateway how it goes, and serve it."""
    live_and_die_with_parent()
    link = GatewayLink(socket.socket(fileno=int(socket_number)))
    try:
        runner = load_runner(EngineSettings.from_json(settings_json), link.send)
    except CheckpointError as error:
        link.send(LoadFailed(LoadFailure.CHECKPOINT, error.message))
        return
    except ConfigError as error:
        link.send(LoadFailed(LoadFailure.CONFIG, error.message))
        return
    health = runner.health
    link.send(Ready(runner.context_length, health.num_blocks, runner.block_size))
    EngineLoop(link, runner).run_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
