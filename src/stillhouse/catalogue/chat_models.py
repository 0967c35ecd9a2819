"""Loads the chat model that an entry of the catalogue describes."""

from __future__ import annotations

from pathlib import Path

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.checkpoints.checkpoint import find_checkpoint, read_checkpoint
from stillhouse.clock import Clock
from stillhouse.errors import ConfigError
from stillhouse.text.chat_model import ChatModel, ChatModelSettings


def load_chat_model(
    spec: ModelSpec, *, clock: Clock | None = None, base_dir: Path | None = None
) -> ChatModel:
    """
    Reads a checkpoint's tokenizer and chat template; its weights are the engine's.

    Args:
        clock: For templates that write the date; None refuses those.
        base_dir: Where a relative checkpoint path starts; None: the working directory.

    Raises:
        ConfigError: The entry names no checkpoint.
        CheckpointError: Files are missing or not what they should be.

    """
    if spec.checkpoint is None:
        raise ConfigError(
            f'models."{spec.id}".checkpoint is missing; right would be the folder of its files'
        )
    settings = ChatModelSettings(
        model_id=spec.id,
        family=spec.family,
        context_length=spec.context_length,
        reasoning_in_content=spec.reasoning_in_content,
    )
    checkpoint = read_checkpoint(find_checkpoint(spec.checkpoint, base_dir=base_dir))
    return ChatModel(checkpoint, settings, clock=clock)
