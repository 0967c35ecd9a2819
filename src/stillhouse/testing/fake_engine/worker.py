"""The fake engine's process: `python -m stillhouse.testing.fake_engine.worker SETTINGS SOCKET`."""

from __future__ import annotations

import sys

from stillhouse.checkpoints.config_json import ConfigJson
from stillhouse.clock import SystemClock
from stillhouse.engines.worker.loop import run_worker
from stillhouse.errors import ConfigError
from stillhouse.testing.fake_engine.runner import FakeRunner
from stillhouse.testing.fake_engine.settings import FakeSettings
from stillhouse.testing.fake_engine.witness import WitnessLog


def load_runner(settings: FakeSettings) -> FakeRunner:
    """
    Makes the engine of *settings*.

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
        settings,
        vocab_size=vocab_size,
        context_length=context_length,
        witness=witness,
        clock=SystemClock(),
    )


def main(settings_json: str, socket_number: str) -> None:
    """Runs the worker with the settings of the command line."""
    settings = FakeSettings.from_json(settings_json)
    run_worker(lambda _: load_runner(settings), socket_number)


if __name__ == "__main__":
    main(*sys.argv[1:])
