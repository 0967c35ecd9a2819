"""A worker that misbehaves in the way that its first argument names."""

from __future__ import annotations

import socket
import sys
import threading
from functools import partial
from pathlib import Path

from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateStep
from stillhouse.engines.worker.channel import WorkerChannel
from stillhouse.engines.worker.frames import (
    Generate,
    LoadFailed,
    LoadFailure,
    Loading,
    Ping,
    Pong,
    Ready,
    RefusalCode,
    Refused,
    Steps,
)
from stillhouse.types.usage import TokenUsage


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def stand_still() -> None:
    threading.Event().wait()


def serve(channel: WorkerChannel, *, gives_up: bool = False) -> None:
    """Answer every request with one token, 7, which is the last one or has no end."""
    channel.send(Ready(context_length=100, num_blocks=10, block_size=15, block_bytes=7))
    finish = None if gives_up else EngineFinish.LENGTH
    while True:
        for message in channel.receive(None):
            match message:
                case Generate():
                    step = GenerateStep((7,), TokenUsage(1, 0, 1), finish)
                    channel.send(Steps([(message.sequence_id, step)]))
                    if gives_up:
                        channel.send(Refused(message.sequence_id, RefusalCode.INVALID, "too hard"))
                case Ping():
                    channel.send(Pong(message.ping_id, EngineHealth(0, 0, 0, 0, 0)))


def main(behaviour: str, marker: str, socket_number: str) -> None:
    connection = socket.socket(fileno=int(socket_number))
    channel = WorkerChannel(connection)
    is_first = not Path(marker).exists()
    Path(marker).touch()
    channel.close = partial(_write, Path(marker), "closed")
    match behaviour:
        case "never-ready":
            stand_still()
        case "dies-loading":
            return
        case "bad-checkpoint":
            channel.send(LoadFailed(LoadFailure.CHECKPOINT, "no such tensor"))
        case "bad-config":
            channel.send(LoadFailed(LoadFailure.CONFIG, "too small"))
        case "hangs-at-first" if is_first:
            channel.send(Ready(context_length=100))
            stand_still()
        case "babbles-at-first" if is_first:
            channel.send(Ready(context_length=100))
            connection.sendall(b"\x00\x00\x00\x03abc")
            stand_still()
        case "fails-to-restart" if not is_first and not Path(f"{marker}-2").exists():
            Path(f"{marker}-2").touch()
        case "gives-up":
            serve(channel, gives_up=True)
        case _:
            channel.send(Loading("thinking", 1, 2))
            serve(channel)


if __name__ == "__main__":
    main(*sys.argv[1:])
