"""Defines the tasks of models: which kind of request a model serves."""

from __future__ import annotations

from enum import StrEnum


class Task(StrEnum):
    """The kind of request that a model serves."""

    #: Conversations, rendered with the checkpoint's chat template, and raw prompts.
    CHAT = "chat"
    #: Raw prompts alone; the checkpoint needs no chat template.
    TEXT = "text"
    #: Texts to vectors.
    EMBEDDINGS = "embeddings"
    #: Texts to scores.
    RERANK = "rerank"


#: Tasks that generate tokens: an engine of this server serves them.
GENERATION_TASKS = frozenset({Task.CHAT, Task.TEXT})
