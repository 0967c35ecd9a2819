"""A checkpoint made in milliseconds, with R1's added tokens and their flags."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stillhouse.chat import Message, Role
from stillhouse.models.chat_model import ChatModel
from stillhouse.models.model_spec import ModelSpec
from stillhouse.tariff import Tariff
from tests.unit.models.templates import R1

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, CLOSE_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"
ADDED_TOKENS = (BOS, EOS, PAD, USER, ASSISTANT, THINK, CLOSE_THINK)

TEXT = (
    "The lamb rests for ten minutes. Let me think about the second method, my friend. "
    "Hello! How are you? Sous vide, grillé, très bien, 羊肉, 🚀 and 12 + 34 = 46.\n\n"
) * 4


def tariff(input_picousd: int, cached_input_picousd: int, output_picousd: int) -> Tariff:
    return Tariff(
        input_picousd=input_picousd,
        cached_input_picousd=cached_input_picousd,
        output_picousd=output_picousd,
    )


def trained_tokenizer() -> Tokenizer:
    """Byte-level BPE of some 500 tokens, R1's flags: only bos, eos and pad are special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (BOS, EOS, PAD)])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ADDED_TOKENS[3:]])
    bos_id = tokenizer.token_to_id(BOS)
    assert bos_id is not None
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def write_checkpoint(
    path: Path,
    tokenizer: Tokenizer,
    *,
    template: str = R1,
    context_length: int = 4096,
    bos: str = BOS,
    eos: str = EOS,
) -> Path:
    """A folder with all that `read_checkpoint` reads."""
    path.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": {"max_position_embeddings": context_length},
        "generation_config.json": {"eos_token_id": tokenizer.token_to_id(eos)},
        "tokenizer_config.json": {
            "bos_token": {"content": bos, "__type": "AddedToken"},
            "eos_token": eos,
            "chat_template": template,
        },
    }
    for name, document in files.items():
        (path / name).write_text(json.dumps(document), encoding="utf-8")
    (path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    return path


def spec(
    path: Path, *, dialect: str = "deepseek_r1", context_length: int | None = None
) -> ModelSpec:
    """A catalogue entry for that folder."""
    return ModelSpec(
        id="test/model",
        dialect=dialect,
        price=tariff(1, 1, 1),
        checkpoint=str(path),
        context_length=context_length,
    )


def load(
    path: Path, *, dialect: str = "deepseek_r1", context_length: int | None = None
) -> ChatModel:
    """The model of that folder."""
    return ChatModel.load(spec(path, dialect=dialect, context_length=context_length))


def system(text: str) -> Message:
    """A system message."""
    return Message(Role.SYSTEM, text)


def user(text: str) -> Message:
    """A user's message."""
    return Message(Role.USER, text)


def assistant(text: str) -> Message:
    """An earlier answer."""
    return Message(Role.ASSISTANT, text)
