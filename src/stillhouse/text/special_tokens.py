"""Finds the special tokens of a checkpoint: tags, begin and end tokens."""

from __future__ import annotations

from stillhouse.checkpoints.checkpoint import Checkpoint
from stillhouse.errors import CheckpointError
from stillhouse.text.families.base import ModelFamily, ReasoningTagIds
from stillhouse.text.tokenizer import Tokenizer


def tag_ids(family: ModelFamily, tokenizer: Tokenizer, *, source: str) -> ReasoningTagIds | None:
    """Returns the ids of the family's reasoning tags; CheckpointError if they are no tokens."""
    if family.reasoning is None:
        return None
    tags = family.reasoning.tags
    open_id, close_id = tokenizer.id_of(tags.open), tokenizer.id_of(tags.close)
    if open_id is None or close_id is None:
        raise CheckpointError(
            f"{source}: family {family.name} needs the added tokens {tags.open} and {tags.close}"
        )
    return ReasoningTagIds(open=open_id, close=close_id)


def call_tags(family: ModelFamily, tokenizer: Tokenizer) -> dict[int, str]:
    """Returns the tags of the family's tool calls that are one token each, by their ids."""
    tags = family.call_form.tags if family.call_form else ()
    ids = ((tokenizer.id_of(tag), tag) for tag in tags)
    return {token_id: tag for token_id, tag in ids if token_id is not None}


def bos(checkpoint: Checkpoint, tokenizer: Tokenizer) -> str:
    """Returns the text that the tokenizer's configuration puts before every text; may be empty."""
    if checkpoint.adds_bos is None:
        return "".join(tokenizer.prefix)
    return checkpoint.special_tokens.get("bos_token", "") if checkpoint.adds_bos else ""


def stop_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns the tokens that end an answer; CheckpointError where no file names one."""
    if checkpoint.end_token_ids:
        return checkpoint.end_token_ids
    end_id = tokenizer.id_of(checkpoint.special_tokens.get("eos_token", ""))
    if end_id is None:
        raise CheckpointError(
            f"{checkpoint.path}: no file names an end token; right would be eos_token_id in "
            "generation_config.json"
        )
    return (end_id,)
