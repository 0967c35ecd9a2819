"""Reads the text files of a checkpoint, within a bound."""

from __future__ import annotations

from pathlib import Path

from stillhouse.errors import CheckpointError

MAX_FILE_BYTES = 1 << 26  # 64 MiB; the largest tokenizer.json in use has some 20


def read_text_file(path: Path) -> str:
    """
    Returns the text of a file in UTF-8.

    Raises:
        CheckpointError: It cannot be read, is larger than `MAX_FILE_BYTES` or is not UTF-8.

    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise CheckpointError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        return content.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is not UTF-8 ({error})") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
