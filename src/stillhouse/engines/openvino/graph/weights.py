"""Packs a checkpoint's weights for the graph: quantised, in one block of memory."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.engines.openvino.graph.architecture import TensorRole
from stillhouse.engines.openvino.graph.quantise import int4_group_size, quantise_int4, quantise_int8
from stillhouse.engines.openvino.settings import WeightFormat
from stillhouse.engines.worker.frames import Loading
from stillhouse.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from stillhouse.checkpoints.safetensors import StoredTensor
    from stillhouse.engines.openvino.graph.architecture import Architecture, TensorSpec

ALIGNMENT_BYTES = 64
CHUNK_BYTES = 16 * 1024 * 1024  # of float32 per thread, so that no matrix is widened whole
SCALE_SUFFIX = ".scale"
_BITS = {"f32": 32, "f16": 16, "i8": 8, "i4": 4}


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """
    Locates a packed tensor.

    Args:
        kind: f32, f16, i8 or i4, in OpenVINO's spelling.
        shape: As the graph sees it; two values of i4 share a byte.
        offset: From the start of the file, in bytes.

    """

    kind: str
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of the tensor in bytes."""
        return math.prod(self.shape) * _BITS[self.kind] // 8


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """The packed tensors; *content* must outlive every model that is made from it."""

    index: Mapping[str, PackedTensor]
    content: NDArray[np.uint8]

    def view(self, name: str) -> NDArray[np.uint8]:
        """Returns the bytes of a tensor, in place."""
        tensor = self.index[name]
        return self.content[tensor.offset : tensor.offset + tensor.num_bytes]


def lay_out(
    architecture: Architecture, weight_format: WeightFormat, *, start: int
) -> tuple[dict[str, PackedTensor], int]:
    """Returns the position of each tensor, the first at *start*, and the end of the last one."""
    index: dict[str, PackedTensor] = {}
    end = start
    for spec in architecture.tensors():
        for name, kind, shape in _packed_parts(spec, weight_format):
            offset = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            index[name] = PackedTensor(kind, shape, offset)
            end = offset + index[name].num_bytes
    return index, end


def _packed_parts(
    spec: TensorSpec, weight_format: WeightFormat
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yields name, kind and shape of the packed form of *spec*: itself, or integers and scales."""
    if spec.role is TensorRole.VECTOR:
        yield spec.name, "f32", spec.shape
        return
    if weight_format is WeightFormat.F16:
        yield spec.name, "f16", spec.shape
        return
    num_rows, num_columns = spec.shape
    group_size = int4_group_size(num_columns)
    # The embedding and the head stay at 8 bits: they cost little, and every token passes them.
    if weight_format is WeightFormat.INT4 and spec.role is TensorRole.MATRIX and group_size:
        grouped = (num_rows, num_columns // group_size)
        yield spec.name, "i4", (*grouped, group_size)
        yield spec.name + SCALE_SUFFIX, "f16", (*grouped, 1)
        return
    yield spec.name, "i8", spec.shape
    yield spec.name + SCALE_SUFFIX, "f16", (num_rows, 1)


def check_tensors(
    checkpoint_dir: Path, architecture: Architecture, stored: Mapping[str, StoredTensor]
) -> None:
    """
    Compares the tensors that config.json implies with those in the files.

    Raises:
        CheckpointError: A tensor is missing or has another shape.

    """
    for spec in architecture.tensors():
        if spec.name not in stored:
            raise CheckpointError(
                f"{checkpoint_dir}: tensor {spec.name} is missing; config.json asks for it."
            )
        if stored[spec.name].shape != spec.shape:
            raise CheckpointError(
                f"{checkpoint_dir}: tensor {spec.name} has shape {stored[spec.name].shape}; "
                f"config.json asks for {spec.shape}."
            )


def pack(
    weights: PackedWeights,
    stored: Mapping[str, StoredTensor],
    *,
    num_threads: int,
    on_progress: Callable[[Loading], None],
) -> None:
    """Fills the content of *weights* from the checkpoint, reporting in bytes."""
    names = [name for name in weights.index if not name.endswith(SCALE_SUFFIX)]
    num_total = sum(weights.index[name].num_bytes for name in names)
    num_done = 0
    with ThreadPoolExecutor(num_threads) as threads:
        for name in names:
            on_progress(Loading("quantising weights", num_done, num_total))
            tensor = stored[name]
            row_bytes = 4 * math.prod(tensor.shape[1:])
            num_rows = max(1, CHUNK_BYTES // row_bytes)
            chunks = [slice(at, at + num_rows) for at in range(0, tensor.shape[0], num_rows)]
            for _ in threads.map(lambda rows, at=tensor: _pack_rows(weights, at, rows), chunks):
                pass  # an exception of a thread is raised here
            num_done += weights.index[name].num_bytes
    on_progress(Loading("quantising weights", num_total, num_total))


def _pack_rows(weights: PackedWeights, tensor: StoredTensor, rows: slice) -> None:
    name, num_rows = tensor.name, tensor.shape[0]
    values = tensor.read(rows)
    target = weights.view(name).reshape(num_rows, -1)[rows]
    match weights.index[name].kind:
        case "f32":
            target[:] = values.reshape(len(values), -1).view(np.uint8)
            return
        case "f16":
            target[:] = values.astype(np.float16).view(np.uint8)
            return
        case "i8":
            integers, scales = quantise_int8(values)
            target[:] = integers.view(np.uint8)
        case _:
            group_size = weights.index[name].shape[-1]
            target[:], scales = quantise_int4(values, group_size)
    scale_target = weights.view(name + SCALE_SUFFIX).reshape(num_rows, -1)[rows]
    scale_target[:] = scales.reshape(len(values), -1).view(np.uint8)
