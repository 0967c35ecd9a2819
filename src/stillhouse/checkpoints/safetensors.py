"""Maps safetensors files and reads their tensors; every bound of a header is checked."""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stillhouse.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # as in the format's reference implementation
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"

_STORAGE: dict[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor where it lies in the mapped file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    _bytes: NDArray[np.uint8]

    def read(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """
        Returns *rows* (all by default) of the first dimension as float32, a copy.

        Raises:
            CheckpointError: The values are of a kind that is not read here, such as integers.

        """
        if self.dtype not in _STORAGE:
            raise CheckpointError(
                f"Tensor {self.name} holds {self.dtype}; only F32, F16 and BF16 are read."
            )
        stored: NDArray[Any] = self._bytes.view(_STORAGE[self.dtype]).reshape(self.shape)[rows]
        if self.dtype == "BF16":
            widened = stored.astype(np.uint32)
            widened <<= np.uint32(16)
            return widened.view(np.float32)
        return stored.astype(np.float32)


def open_checkpoint(checkpoint_dir: Path) -> dict[str, StoredTensor]:
    """
    Maps every safetensors file of *checkpoint_dir* and returns its tensors by name.

    Raises:
        CheckpointError: A file is missing, cut short, or its header points outside of it.

    """
    tensors: dict[str, StoredTensor] = {}
    for path in checkpoint_files(checkpoint_dir):
        tensors.update(open_file(path))
    return tensors


def checkpoint_files(checkpoint_dir: Path) -> list[Path]:
    """
    Returns the safetensors files that make up *checkpoint_dir*, sorted.

    Raises:
        CheckpointError: There are none, or the index names what is not a file beside it.

    """
    index = checkpoint_dir / INDEX_NAME
    if not index.exists():
        return [checkpoint_dir / SINGLE_NAME]
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        names = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{index} must hold {{"weight_map": {{tensor: file}}}}.') from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names {name!r}, which is not a file beside it.")
    return [checkpoint_dir / name for name in names]


def open_file(path: Path) -> dict[str, StoredTensor]:
    """
    Maps one safetensors file and returns its tensors by name.

    Raises:
        CheckpointError: It is missing, cut short, or its header points outside of it.

    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    content = np.frombuffer(mapped, np.uint8)
    header_bytes = int.from_bytes(content[:LENGTH_BYTES].tobytes(), "little")
    start = LENGTH_BYTES + header_bytes
    if len(content) < LENGTH_BYTES or header_bytes > MAX_HEADER_BYTES or start > len(content):
        raise CheckpointError(f"{path} is not a safetensors file, or was cut short.")
    try:
        header = json.loads(content[LENGTH_BYTES:start].tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a header that is not JSON: {error}.") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a header that is not a JSON object.")
    header.pop("__metadata__", None)
    data = content[start:]
    return {name: _locate(path, name, entry, data) for name, entry in header.items()}


def _locate(
    path: Path, name: str, entry: Mapping[str, Any], data: NDArray[np.uint8]
) -> StoredTensor:
    """Checks that *entry* describes a part of *data*."""
    match entry:
        case {
            "dtype": str(dtype),
            "shape": [*shape],
            "data_offsets": [int(begin), int(end)],
        } if dtype in _ITEM_BYTES and all(type(size) is int and size >= 0 for size in shape):
            pass
        case _:
            raise CheckpointError(f"{path}: the header's entry for {name} is not understood.")
    if not 0 <= begin <= end <= len(data):
        raise CheckpointError(
            f"{path}: {name} lies at bytes {begin} to {end}, but there are only {len(data)}."
        )
    if math.prod(shape) * _ITEM_BYTES[dtype] != end - begin:
        raise CheckpointError(
            f"{path}: {name} has {end - begin} bytes; shape {shape} of {dtype} takes "
            f"{math.prod(shape) * _ITEM_BYTES[dtype]}."
        )
    return StoredTensor(name, dtype, tuple(shape), data[begin:end])
