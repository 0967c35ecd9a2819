"""The fake engine's process: `python -m stillhouse.engines.fake.worker SETTINGS SOCKET`."""

from __future__ import annotations

import socket
import sys
import time

from stillhouse.engines.fake.runner import FakeRunner, SequenceSteps
from stillhouse.engines.fake.settings import FakeSettings
from stillhouse.engines.fake.witness import WitnessLog
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
from stillhouse.engines.openvino.config_json import ConfigJson
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
)


class EngineLoop:
    """Takes what the gateway sends, steps when a token is due, and sleeps in between."""

    def __init__(self, link: GatewayLink, runner: FakeRunner) -> None:
        self._link = link
        self._runner = runner

    def run_forever(self) -> None:
        """Serve until the process ends with its gateway, or by a fault."""
        while True:
            steps = self._receive()
            steps += self._runner.step(time.monotonic())
            if steps:
                self._link.send(Steps(steps))

    def _receive(self) -> SequenceSteps:
        due_s = self._runner.next_due_s
        timeout_s = None if due_s is None else max(0.0, due_s - time.monotonic())
        steps: SequenceSteps = []
        for message in self._link.receive(wait=True, timeout_s=timeout_s):
            match message:
                case Generate():
                    self._add(message)
                case Cancel():
                    steps += self._runner.cancel(message.sequence_id, now_s=time.monotonic())
                case Ping():
                    self._link.send(Pong(message.ping_id, self._runner.health))
        return steps

    def _add(self, message: Generate) -> None:
        try:
            self._runner.add(message.sequence_id, message.request, now_s=time.monotonic())
        except RequestTooLargeForEngineError as error:
            self._link.send(Refused(message.sequence_id, RefusalCode.TOO_LARGE, error.message))
        except InvalidRequestError as error:
            self._link.send(Refused(message.sequence_id, RefusalCode.INVALID, error.message))


def load_runner(settings: FakeSettings) -> FakeRunner:
    """
    Make the engine that *settings* ask for.

    Raises:
        CheckpointError: config.json is missing or not what it should be.
        ConfigError: The words are not in the vocabulary, or the witness log cannot be written.

    """
    config = ConfigJson.read(settings.checkpoint_dir / "config.json")
    vocab_size = config.integer("vocab_size")
    if settings.word_ids[1] >= vocab_size:
        raise ConfigError(
            f"word_ids end with {settings.word_ids[1]}; the last token id is {vocab_size - 1}."
        )
    longest = config.integer("max_position_embeddings")
    context_length = min(
        settings.context_length or longest, longest, settings.num_blocks * settings.block_size
    )
    try:
        witness = WitnessLog(settings.witness_log)
    except OSError as error:
        raise ConfigError(
            f"witness_log {settings.witness_log} cannot be written: {error.strerror}."
        ) from error
    return FakeRunner(
        settings, vocab_size=vocab_size, context_length=context_length, witness=witness
    )


def main(settings_json: str, socket_number: str) -> None:
    """Tell the gateway that it can begin, and serve it."""
    live_and_die_with_parent()
    link = GatewayLink(socket.socket(fileno=int(socket_number)))
    settings = FakeSettings.from_json(settings_json)
    try:
        runner = load_runner(settings)
    except CheckpointError as error:
        link.send(LoadFailed(LoadFailure.CHECKPOINT, error.message))
        return
    except ConfigError as error:
        link.send(LoadFailed(LoadFailure.CONFIG, error.message))
        return
    link.send(Ready(runner.context_length, settings.num_blocks, settings.block_size))
    EngineLoop(link, runner).run_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
