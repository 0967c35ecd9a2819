"""Checkpoints made in milliseconds, with the families' added tokens and their flags."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.text.chat_model import ChatModel
from stillhouse.text.prompt.encoder import Prompt
from stillhouse.types.messages import Message, Role, Tool, ToolCall
from stillhouse.types.requests import ChatRequest
from stillhouse.types.tariff import Tariff
from tests.unit.text.templates import R1

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, CLOSE_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"
ADDED_TOKENS = (BOS, EOS, PAD, USER, ASSISTANT, THINK, CLOSE_THINK)
DEEPSEEK_TOOL_TOKENS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
)
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_ADDED = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    THINK,
    CLOSE_THINK,
)
LLAMA_BOS = "<|begin_of_text|>"
LLAMA_SPECIAL = (
    LLAMA_BOS,
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)

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


def trained_tokenizer(
    special: Sequence[str] = (BOS, EOS, PAD),
    added: Sequence[str] = ADDED_TOKENS[3:],
    *,
    bos: str = BOS,
) -> Tokenizer:
    """Byte-level BPE of some 500 tokens; in R1's, only bos, eos and pad are flagged as special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in added])
    bos_id = tokenizer.token_to_id(bos)
    if bos_id is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bos_id)]
        )
    return tokenizer


def deepseek_tokenizer() -> Tokenizer:
    """With V3.1's tags of tool calls."""
    return trained_tokenizer(added=(*ADDED_TOKENS[3:], *DEEPSEEK_TOOL_TOKENS))


def qwen_tokenizer() -> Tokenizer:
    """With Qwen3's tags; nothing stands before a text."""
    return trained_tokenizer(QWEN_SPECIAL, QWEN_ADDED)


def llama_tokenizer() -> Tokenizer:
    """With Llama 3.1's tags."""
    return trained_tokenizer(LLAMA_SPECIAL, (), bos=LLAMA_BOS)


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
    path: Path, *, family: str = "deepseek_r1", context_length: int | None = None
) -> ModelSpec:
    """A catalogue entry for that folder."""
    return ModelSpec(
        id="test/model",
        family=family,
        price=tariff(1, 1, 1),
        checkpoint=str(path),
        context_length=context_length,
    )


def load(
    path: Path, *, family: str = "deepseek_r1", context_length: int | None = None
) -> ChatModel:
    """The model of that folder."""
    return load_chat_model(spec(path, family=family, context_length=context_length))


def system(text: str) -> Message:
    """A system message."""
    return Message(Role.SYSTEM, text)


def user(text: str) -> Message:
    """A user's message."""
    return Message(Role.USER, text)


def assistant(text: str, *, reasoning: str = "") -> Message:
    """An earlier answer."""
    return Message(Role.ASSISTANT, text, reasoning=reasoning)


def tool_result(text: str, call_id: str = "call_1") -> Message:
    """What came of a tool call."""
    return Message(Role.TOOL, text, tool_call_id=call_id)


def called(*calls: tuple[str, str], content: str = "", reasoning: str = "") -> Message:
    """An earlier answer that called tools: names with their arguments."""
    return Message(
        Role.ASSISTANT,
        content,
        reasoning=reasoning,
        tool_calls=tuple(
            ToolCall(f"call_{number}", name, arguments)
            for number, (name, arguments) in enumerate(calls, start=1)
        ),
    )


def chat(*messages: Message, **fields: Any) -> ChatRequest:
    """A request for the next answer."""
    return ChatRequest("test/model", messages, **fields)


WEATHER = Tool(
    "get_weather",
    "Weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def read(model: ChatModel, prompt: Prompt) -> str:
    """The prompt as text, added tokens spelled out."""
    path = str(model.checkpoint_path / "tokenizer.json")
    return Tokenizer.from_file(path).decode(prompt.token_ids, skip_special_tokens=False)


def added_ids(model: ChatModel, prompt: Prompt) -> list[int]:
    """The prompt's ids that stand for added tokens, in order."""
    path = str(model.checkpoint_path / "tokenizer.json")
    added = Tokenizer.from_file(path).get_added_tokens_decoder()
    return [token_id for token_id in prompt.token_ids if token_id in added]
