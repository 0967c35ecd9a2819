from pathlib import Path

import pytest
from tokenizers import Tokenizer

from stillhouse.text.chat_model import ChatModel
from tests.unit.text.checkpoints import (
    LLAMA_BOS,
    deepseek_tokenizer,
    llama_tokenizer,
    load,
    qwen_tokenizer,
    trained_tokenizer,
    write_checkpoint,
)
from tests.unit.text.templates import LLAMA31, QWEN3, QWEN25, V31


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The whole tokenizer, as the tokenizers library sees it."""
    return trained_tokenizer()


@pytest.fixture(scope="session")
def r1_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> ChatModel:
    """A model with R1's template, family and added tokens."""
    path: Path = tmp_path_factory.mktemp("r1")
    return load(write_checkpoint(path, tokenizer))


@pytest.fixture(scope="session")
def v31_model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A model with DeepSeek-V3.1's own template, which leaves tools to the caller."""
    path = write_checkpoint(tmp_path_factory.mktemp("v31"), deepseek_tokenizer(), template=V31)
    return load(path, family="deepseek_v31")


@pytest.fixture(scope="session")
def llama_model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A model with Llama 3.1's template, family and special tokens."""
    path = tmp_path_factory.mktemp("llama31")
    write_checkpoint(path, llama_tokenizer(), template=LLAMA31, bos=LLAMA_BOS, eos="<|eot_id|>")
    return load(path, family="llama3")


@pytest.fixture(scope="session")
def qwen25_model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A model with Qwen2.5's template, family and added tokens."""
    path = tmp_path_factory.mktemp("qwen25")
    write_checkpoint(path, qwen_tokenizer(), template=QWEN25, bos="", eos="<|im_end|>")
    return load(path, family="qwen25")


@pytest.fixture(scope="session")
def qwen3_model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A model with Qwen3's template, family and added tokens."""
    path = tmp_path_factory.mktemp("qwen3")
    write_checkpoint(path, qwen_tokenizer(), template=QWEN3, bos="", eos="<|im_end|>")
    return load(path, family="qwen3")
