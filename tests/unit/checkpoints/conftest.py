import pytest
from tokenizers import Tokenizer

from tests.unit.text.checkpoints import trained_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A small tokenizer of bytes, trained on a few words."""
    return trained_tokenizer()
