"""The files of a Hugging Face checkpoint that turn words into tokens and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import CheckpointError

PACKAGED_CHECKPOINTS = Path(__file__).with_name("packaged")
MAX_FILE_BYTES = 1 << 26  # 64 MiB; the largest tokenizer.json in use has some 20
SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    The parts of a Hugging Face checkpoint that turn words into tokens and back.

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
    tokenizer_json: str
    chat_template: str
    chat_template_source: str


def find_checkpoint(name: str, *, base_dir: Path | None = None) -> Path:
    """
    The folder that *name* means: a path, or a checkpoint that comes with stillhouse.

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
    Read a checkpoint's JSON files; weights are the engine's business, and nothing is unpickled.

    Raises:
        CheckpointError: A file or a key is missing or wrong; names it.

    """
    config = _read_json(path / "config.json")
    generation = _read_json(path / "generation_config.json", optional=True)
    tokenizer_config = _read_json(path / "tokenizer_config.json", optional=True)
    chat_template, chat_template_source = _chat_template(path, tokenizer_config)
    return Checkpoint(
        path=path,
        context_length=_context_length(config, source=path / "config.json"),
        end_token_ids=_end_token_ids(generation) or _end_token_ids(config),
        special_tokens=_special_tokens(tokenizer_config),
        adds_bos=_adds_bos(tokenizer_config),
        tokenizer_json=_read_text(path / "tokenizer.json"),
        chat_template=chat_template,
        chat_template_source=chat_template_source,
    )


def _context_length(config: dict[str, Any], *, source: Path) -> int:
    value = config.get("max_position_embeddings")
    if not isinstance(value, int) or value < 2:
        raise CheckpointError(
            f"{source}: max_position_embeddings is {value!r}; right would be the context's length"
        )
    return value


def _end_token_ids(config: dict[str, Any]) -> tuple[int, ...]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int))


def _special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in SPECIAL_TOKEN_NAMES:
        value = tokenizer_config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            tokens[name] = content
    return tokens


def _adds_bos(tokenizer_config: dict[str, Any]) -> bool | None:
    value = tokenizer_config.get("add_bos_token")
    return value if isinstance(value, bool) else None


def _chat_template(path: Path, tokenizer_config: dict[str, Any]) -> tuple[str, str]:
    """The template and the file that it stands in."""
    own_file = path / "chat_template.jinja"
    if own_file.is_file():
        return _read_text(own_file), str(own_file)
    source = f"{path / 'tokenizer_config.json'}: chat_template"
    value = tokenizer_config.get("chat_template")
    if isinstance(value, list):
        named = [entry for entry in value if isinstance(entry, dict)]
        value = next((e.get("template") for e in named if e.get("name") == "default"), None)
    if not isinstance(value, str) or not value:
        raise CheckpointError(
            f"{source} is missing; right would be a template there or in {own_file.name}"
        )
    return value, source


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        document = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: right would be a JSON object")
    return document


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is not UTF-8 ({error})") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
