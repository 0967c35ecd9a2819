"""The tokens of a checkpoint's vocabulary that have a part to play, by their ids."""

from __future__ import annotations

from stillhouse.checkpoints.checkpoint import Checkpoint
from stillhouse.errors import CheckpointError
from stillhouse.text.families.base import Dialect, MarkIds
from stillhouse.text.tokenizer import Tokenizer


def mark_ids(dialect: Dialect, tokenizer: Tokenizer, *, source: str) -> MarkIds | None:
    """The ids of the dialect's reasoning marks; CheckpointError where the vocabulary has none."""
    if dialect.reasoning is None:
        return None
    marks = dialect.reasoning.marks
    open_id, close_id = tokenizer.id_of(marks.open), tokenizer.id_of(marks.close)
    if open_id is None or close_id is None:
        raise CheckpointError(
            f"{source}: dialect {dialect.name} needs the added tokens {marks.open} and "
            f"{marks.close}"
        )
    return MarkIds(open=open_id, close=close_id)


def call_marks(dialect: Dialect, tokenizer: Tokenizer) -> dict[int, str]:
    """Those marks of the dialect's tool calls that are one token each, by their ids."""
    marks = dialect.call_form.marks if dialect.call_form else ()
    ids = ((tokenizer.id_of(mark), mark) for mark in marks)
    return {token_id: mark for token_id, mark in ids if token_id is not None}


def bos(checkpoint: Checkpoint, tokenizer: Tokenizer) -> str:
    """What the tokenizer's own configuration puts before a text; empty if nothing."""
    if checkpoint.adds_bos is None:
        return "".join(tokenizer.prefix)
    return checkpoint.special_tokens.get("bos_token", "") if checkpoint.adds_bos else ""


def stop_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Any of these ends an answer; CheckpointError where no file names one."""
    if checkpoint.end_token_ids:
        return checkpoint.end_token_ids
    end_id = tokenizer.id_of(checkpoint.special_tokens.get("eos_token", ""))
    if end_id is None:
        raise CheckpointError(
            f"{checkpoint.path}: no file names an end token; right would be eos_token_id in "
            "generation_config.json"
        )
    return (end_id,)
