"""What each task of a model loads, serves and refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.api.models.model_tags import tags_of
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.task import Task
from stillhouse.errors import CheckpointError, ConfigError, WrongTaskError
from stillhouse.types.requests import TextRequest
from tests.unit.text.checkpoints import chat, deepseek_tokenizer, spec, user, write_checkpoint


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    """A checkpoint without a chat template."""
    write_checkpoint(tmp_path, deepseek_tokenizer(), template="")
    return tmp_path


def test_a_text_model_needs_no_template(base_model):
    """It continues raw prompts; a conversation is refused, with the endpoint that is right."""
    model = load_chat_model(replace(spec(base_model, family="plain"), task=Task.TEXT))

    assert model.encode_prompt(TextRequest(model="test/model", prompt="Hello")).token_ids
    with pytest.raises(WrongTaskError, match="/v1/openai/completions") as refused:
        model.encode_prompt(chat(user("Hello")))
    assert "model" == refused.value.param


def test_a_chat_model_needs_one(base_model):
    """Without a template the error names the file, and the task that needs none."""
    with pytest.raises(CheckpointError, match=r'chat_template is missing.*task = "text"'):
        load_chat_model(spec(base_model, family="plain"))


@pytest.mark.parametrize("task", [Task.EMBEDDINGS, Task.RERANK])
def test_what_no_engine_serves_is_catalogued_and_not_loaded(base_model, task):
    """A model of another task has a place in the catalogue; loading it names the key."""
    entry = replace(spec(base_model, family="plain"), task=task)

    assert str(task) in tags_of(entry)
    with pytest.raises(ConfigError, match=rf'task = "{task}" is not served yet.*chat, text'):
        load_chat_model(entry)


def test_the_tags_name_the_task(base_model):
    """A text model is not tagged as one for chat, whatever its entry claims."""
    entry = replace(spec(base_model, family="plain"), task=Task.TEXT, tags=("chat", "french"))

    assert {"text", "french"} <= set(tags_of(entry))
    assert "chat" not in tags_of(entry)
