"""Runs the compiled graph over its KV cache: a batch in, logits out."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import openvino as ov

from stillhouse.clock import SystemClock
from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.graph.graph import build_graph
from stillhouse.engines.openvino.scheduling.scheduler import Slice
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.scheduling.step_times import StepTimes
from stillhouse.engines.openvino.settings import Precision
from stillhouse.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillhouse.engines.openvino.graph.architecture import Architecture
    from stillhouse.engines.openvino.graph.weights import PackedWeights

F32_PROPERTIES: dict[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


class Decoder:
    """
    Runs the graph of `graph.build_graph`, compiled for this machine's processor.

    Attributes:
        block_size: Tokens per block of the KV cache, the plugin's choice.
        block_bytes: Bytes of a block over all layers, keys and values together.
        block_format: Layout of these bytes, by this version of OpenVINO on this processor.
        num_blocks: Blocks of the KV cache; 0 until `allocate_cache`.
        step_times: Recent durations of its runs, from `warm_up` on.

    """

    def __init__(
        self,
        architecture: Architecture,
        weights: PackedWeights,
        *,
        num_threads: int,
        precision: Precision,
    ) -> None:
        properties: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": num_threads,
            # A thread pinned to a core that another process uses holds up all the others.
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": activation_group_size(weights),
        }
        if precision is Precision.F32:
            properties |= F32_PROPERTIES
        self._weights = weights  # the compiled model refers to their memory
        graph = build_graph(architecture, weights)
        compiled = ov.Core().compile_model(graph, "CPU", properties)
        self._request = compiled.create_infer_request()
        is_cache = {port: "_cache." in port.get_any_name() for port in compiled.inputs}
        self._caches = [_Cache.at(port) for port in compiled.inputs if is_cache[port]]
        self._inputs = {
            port.get_any_name(): _resizable(port) for port in compiled.inputs if not is_cache[port]
        }
        for name, tensor in self._inputs.items():
            self._request.set_tensor(name, tensor)
        self._memory: list[NDArray[np.uint8]] = []
        self.block_size = next(cache.block_size for cache in self._caches if cache.holds_values)
        self.block_bytes = sum(cache.block_bytes for cache in self._caches)
        processor = ov.Core().get_property("CPU", "FULL_DEVICE_NAME")
        self.block_format = f"{ov.__version__} {processor} {precision} {self._caches}"
        self.num_blocks = 0
        self.step_times = StepTimes()
        self._clock = SystemClock()

    def allocate_cache(self, num_blocks: int) -> None:
        """
        Allocates *num_blocks* blocks; the machine gives memory only to those that are used.

        Raises:
            ConfigError: There is not so much memory.

        """
        try:
            # Not ov.Tensor(kind, shape), which would touch all of it.
            self._memory = [
                np.empty(num_blocks * cache.block_bytes, np.uint8) for cache in self._caches
            ]
        except MemoryError as error:
            raise ConfigError(
                f"kv_cache_bytes: {num_blocks * self.block_bytes} bytes cannot be had."
            ) from error
        for cache, memory in zip(self._caches, self._memory, strict=True):
            memory.shape = (num_blocks, cache.block_bytes)
            shape = ov.Shape([num_blocks, *cache.block_shape])
            self._request.set_tensor(cache.name, ov.Tensor(memory, shape, cache.kind))
        self.num_blocks = num_blocks

    def read_block(self, block: int) -> NDArray[np.uint8]:
        """Returns a copy of *block* over all layers: uint8, shape (block_bytes,)."""
        return np.concatenate([memory[block] for memory in self._memory])

    def write_block(self, block: int, content: NDArray[np.uint8]) -> None:
        """Writes bytes that `read_block` returned into *block*."""
        begin = 0
        for memory in self._memory:
            memory[block] = content[begin : begin + memory.shape[1]]
            begin += memory.shape[1]

    def copy_block(self, source: int, target: int) -> None:
        """Copies *source* to *target*, over all layers."""
        for memory in self._memory:
            memory[target] = memory[source]

    def warm_up(self) -> None:
        """
        Runs a decoding step and a block of prompt, twice.

        The first round makes kernels, so that no request waits for them; the second shows what such
        steps take.

        Raises:
            RuntimeError: The processor lacks what the compiled graph needs, or the weights are no
                numbers.

        """
        request = GenerateRequest("warm-up", [0] * self.block_size, 0)
        sequence = Sequence(0, request, block_size=self.block_size, generator=None)
        sequence.block_ids.append(0)
        for _ in range(2):
            self.step_times = StepTimes()
            for begin in (0, self.block_size - 1):
                part = Slice(sequence, begin, self.block_size - begin, is_sampled=True)
                logits = self.run([part])
                if len(logits) != 1 or not np.isfinite(logits).all():
                    raise RuntimeError(f"the first logits are {logits}, which are none")

    def run(self, batch: list[Slice]) -> NDArray[np.float32]:
        """
        Computes *batch* and returns the logits of the sequences whose next tokens are sampled.

        Returns:
            float32, shape (sampled rows, vocabulary), in the batch's order, for each sequence a
            row more than it has a draft; overwritten by the next run.

        """
        start_s = self._clock.monotonic_s()
        for name, values in batch_inputs(batch).items():
            tensor = self._inputs[name]
            if values.ndim:
                tensor.shape = values.shape
            tensor.data[...] = values
        # Shared: a copy of 16 rows of Llama's vocabulary takes longer than their greedy sampling.
        logits: NDArray[np.float32] = self._request.infer(share_outputs=True)[0]
        num_tokens = sum(part.num_rows for part in batch)
        self.step_times.observe(num_tokens, self._clock.monotonic_s() - start_s)
        return logits.reshape(-1, logits.shape[-1])


def activation_group_size(weights: PackedWeights) -> int:
    """
    Returns how many neighbouring activations are quantised with one scale.

    64 where rows and the groups of their weights divide by it: a quarter faster in prompts than
    OpenVINO's own 32, for a KL divergence of 1.4 to 1.8 times the 32's. 128 is a little faster
    still, for 2 to 3 times the divergence, and with int4 weights slower; docs/benchmarks.md says
    how much.
    """
    sizes = {tensor.shape[-1] for tensor in weights.index.values() if tensor.kind in {"i8", "i4"}}
    return 64 if all(size % 64 == 0 for size in sizes) else 32


def batch_inputs(batch: list[Slice]) -> dict[str, NDArray[Any]]:
    """Returns the graph's inputs for *batch*, as `graph.build_graph` lists them."""
    token_ids, positions, sampled = array("q"), array("q"), array("q")
    past_lens, block_ids = array("i"), array("i")
    token_begins, block_begins = array("i", [0]), array("i", [0])
    longest = 0
    for part in batch:
        sequence = part.sequence
        begin, end = part.begin, part.begin + part.num_rows
        token_ids.extend(sequence.token_ids[begin : begin + part.num_tokens])
        token_ids.extend(part.draft.token_ids)
        positions.extend(range(begin, end))
        past_lens.append(begin)
        block_ids.extend(sequence.block_ids)
        token_begins.append(len(token_ids))
        block_begins.append(len(block_ids))
        longest = max(longest, end)
        sampled.extend(range(len(token_ids) - part.num_sampled_rows, len(token_ids)))
    return {
        "input_ids": np.asarray(token_ids),
        "position_ids": np.asarray(positions),
        "past_lens": np.asarray(past_lens),
        "subsequence_begins": np.asarray(token_begins),
        "block_indices": np.asarray(block_ids),
        "block_indices_begins": np.asarray(block_begins),
        "max_context_len": np.asarray(longest),
        "sampled_tokens_indices": np.asarray(sampled),
    }


@dataclass(frozen=True, slots=True)
class _Cache:
    """
    Describes the plugin's layout of one layer's keys or values.

    Args:
        kind: float32, or uint8 with scales beside the values.
        block_shape: Heads, tokens and features of one block, scales included.

    """

    name: str
    kind: ov.Type
    block_shape: tuple[int, int, int]

    @classmethod
    def at(cls, port: Any) -> Self:
        """Reads the layout of a cache input from the compiled model."""
        shape = port.get_partial_shape()
        heads, tokens, features = (shape[axis].get_length() for axis in (1, 2, 3))
        return cls(port.get_any_name(), port.get_element_type(), (heads, tokens, features))

    @property
    def holds_values(self) -> bool:
        """Whether it is of values; those of keys may have scales where tokens are."""
        return self.name.startswith("value_cache.")

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        return self.block_shape[1]

    @property
    def block_bytes(self) -> int:
        """Bytes per block."""
        return math.prod(self.block_shape) * int(self.kind.size)


def _resizable(port: Any) -> ov.Tensor:
    """Returns a tensor to resize for each batch, in a tenth of the time that a new one takes."""
    num_axes = port.get_partial_shape().rank.get_length()
    return ov.Tensor(port.get_element_type(), ov.Shape([1] * num_axes))
