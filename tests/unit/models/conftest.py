from pathlib import Path

import pytest
from tokenizers import Tokenizer

from stillhouse.models.chat_model import ChatModel
from tests.unit.models.checkpoints import load, trained_tokenizer, write_checkpoint


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The whole tokenizer, as the tokenizers library sees it."""
    return trained_tokenizer()


@pytest.fixture(scope="session")
def r1_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ChatModel:
    """A model with R1's template, dialect and added tokens."""
    path: Path = tmp_path_factory.mktemp("r1")
    return load(write_checkpoint(path, tokenizer))
