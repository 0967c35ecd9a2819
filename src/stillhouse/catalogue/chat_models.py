"""Loads the chat model that an entry of the catalogue describes."""

from __future__ import annotations

from pathlib import Path

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.catalogue.task import GENERATION_TASKS, Task
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
        ConfigError: The entry names no checkpoint, or a task that no engine here serves.
        CheckpointError: Files are missing or not what they should be.

    """
    if spec.checkpoint is None:
        raise ConfigError(
            f'models."{spec.id}".checkpoint is missing; right would be the folder of its files'
        )
    if spec.task not in GENERATION_TASKS:
        raise ConfigError(
            f'models."{spec.id}".task = "{spec.task}" is not served yet; right would be one of '
            f"{', '.join(sorted(GENERATION_TASKS))}"
        )
    settings = ChatModelSettings(
        model_id=spec.id,
        family=spec.family,
        has_chat=spec.task is Task.CHAT,
        context_length=spec.context_length,
        reasoning_in_content=spec.reasoning_in_content,
    )
    checkpoint = read_checkpoint(find_checkpoint(spec.checkpoint, base_dir=base_dir))
    return ChatModel(checkpoint, settings, clock=clock)
