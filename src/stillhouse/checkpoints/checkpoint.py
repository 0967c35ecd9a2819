"""Reads the files of a Hugging Face checkpoint that the gateway needs: all but the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.checkpoints.config_json import ConfigJson
from stillhouse.checkpoints.text_file import read_text_file
from stillhouse.checkpoints.tokenizer_json import TokenizerJson
from stillhouse.errors import CheckpointError

PACKAGED_CHECKPOINTS = Path(__file__).with_name("packaged")
SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    The files of a Hugging Face checkpoint that the gateway needs, read and checked.

    Args:
        context_length: Most tokens that the model was made for (`max_position_embeddings`).
        end_token_ids: Any of these ends an answer; empty if no file names one.
        special_tokens: ``bos_token`` and the like, as the chat template may ask for them.
        adds_bos: Whether ``bos_token`` stands before every text that is no chat; None leaves it to
            the tokenizer's post-processor.

    """

    path: Path
    context_length: int
    end_token_ids: tuple[int, ...]
    special_tokens: Mapping[str, str]
    adds_bos: bool | None
    tokenizer_json: TokenizerJson
    chat_template: str | None
    chat_template_source: str


def find_checkpoint(name: str, *, base_dir: Path | None = None) -> Path:
    """
    Returns the folder of a checkpoint: a path, or one that comes with stillhouse.

    Args:
        base_dir: Where relative paths start; None: the working directory.

    Raises:
        CheckpointError: There is no such folder; says where it was looked for.

    """
    candidates = [(base_dir or Path.cwd()) / Path(name).expanduser()]
    if Path(name).name == name:
        candidates.append(PACKAGED_CHECKPOINTS / name)
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate.resolve()
    looked = " and ".join(str(candidate / "config.json") for candidate in candidates)
    raise CheckpointError(f"checkpoint {name!r} not found: there is no {looked}")


def read_checkpoint(path: Path) -> Checkpoint:
    """
    Reads a checkpoint's JSON files; engines read the weights, and nothing is unpickled.

    Raises:
        CheckpointError: A file or a key is missing or wrong; names it.

    """
    config = ConfigJson.read(path / "config.json")
    generation = ConfigJson.read(path / "generation_config.json", is_optional=True)
    tokenizer_config = ConfigJson.read(path / "tokenizer_config.json", is_optional=True)
    chat_template, chat_template_source = _chat_template(path, tokenizer_config)
    return Checkpoint(
        path=path,
        context_length=config.integer("max_position_embeddings", minimum=2),
        end_token_ids=_end_token_ids(generation) or _end_token_ids(config),
        special_tokens=_special_tokens(tokenizer_config),
        adds_bos=_adds_bos(tokenizer_config),
        tokenizer_json=TokenizerJson.read(path / "tokenizer.json"),
        chat_template=chat_template,
        chat_template_source=chat_template_source,
    )


def _end_token_ids(config: ConfigJson) -> tuple[int, ...]:
    value = config.value("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int))


def _special_tokens(tokenizer_config: ConfigJson) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in SPECIAL_TOKEN_NAMES:
        value = tokenizer_config.value(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            tokens[name] = content
    return tokens


def _adds_bos(tokenizer_config: ConfigJson) -> bool | None:
    value = tokenizer_config.value("add_bos_token")
    return value if isinstance(value, bool) else None


def _chat_template(path: Path, tokenizer_config: ConfigJson) -> tuple[str | None, str]:
    """Returns the template, or None, and the file with its key."""
    own_file = path / "chat_template.jinja"
    if own_file.is_file():
        return read_text_file(own_file), str(own_file)
    source = f"{path / 'tokenizer_config.json'}: chat_template"
    value = tokenizer_config.value("chat_template")
    if isinstance(value, list):
        named = [entry for entry in value if isinstance(entry, dict)]
        value = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return (value if isinstance(value, str) and value else None), source
