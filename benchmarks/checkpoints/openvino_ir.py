"""
Builds the same decoder for OpenVINO GenAI: one sequence per row, keys and values as state.

GenAI's ContinuousBatchingPipeline converts its attention to paged attention by itself, so that
both engines run the same kernels over the same quantised weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from stillhouse.engines.openvino.graph.graph import GraphBuilder

if TYPE_CHECKING:
    from pathlib import Path

    from stillhouse.engines.openvino.graph.architecture import Architecture
    from stillhouse.engines.openvino.graph.weights import PackedWeights

MASKED = 1e9


class StatefulGraphBuilder(GraphBuilder):
    """Builds the graph over shapes (rows, tokens, features)."""

    def __init__(
        self, architecture: Architecture, weights: PackedWeights
    ) -> None:  # the base class has other inputs
        self._architecture = architecture
        self._weights = weights
        self._parameters: list[Any] = []
        self._assignments: list[Any] = []
        self._ids = self._parameter("input_ids", [-1, -1], np.int64)
        self._mask = self._attention_mask()
        positions = self._parameter("position_ids", [-1, -1], np.int64)
        self._beams = self._parameter("beam_idx", [-1], np.int32)
        self._num_rows = ops.gather(ops.shape_of(self._ids), ints(0), ints(0))
        self._cosines, self._sines = self._rotary_waves(positions)

    def build(self) -> ov.Model:
        """Return the model."""
        embedding = self._matrix("model.embed_tokens.weight")
        logits = self._logits(self._layers(ops.gather(embedding, self._ids, ints(0))), embedding)
        return ov.Model([logits], self._assignments, self._parameters, "decoder")

    def _attention(self, layer: int, x: Any) -> Any:
        architecture, prefix = self._architecture, f"model.layers.{layer}.self_attn."
        num_heads, num_kv_heads = architecture.num_heads, architecture.num_kv_heads
        queries = self._rotate(self._heads(self._linear(x, f"{prefix}q_proj"), num_heads))
        keys = self._rotate(self._heads(self._linear(x, f"{prefix}k_proj"), num_kv_heads))
        values = self._heads(self._linear(x, f"{prefix}v_proj"), num_kv_heads)
        attended = ops.scaled_dot_product_attention(
            queries,
            self._remember(keys, f"past_key_values.{layer}.keypresent.{layer}.key"),
            self._remember(values, f"past_key_values.{layer}.valuepresent.{layer}.value"),
            self._mask,
        )
        joined = ops.reshape(
            ops.transpose(attended, ints(0, 2, 1, 3)),
            ints(0, 0, num_heads * architecture.head_dim),
            special_zero=True,
        )
        return self._linear(joined, f"{prefix}o_proj")

    def _remember(self, new: Any, name: str) -> Any:
        """Append *new* to the state *name*; return the state with a copy for every query head."""
        architecture = self._architecture
        num_kv_heads, head_dim = architecture.num_kv_heads, architecture.head_dim
        num_copies = architecture.num_heads // num_kv_heads
        nothing = ops.broadcast(
            ops.constant(np.float32(0)),
            ops.concat([self._num_rows, ints(num_kv_heads, 0, head_dim)], 0),
        )
        shape = ov.PartialShape([-1, num_kv_heads, -1, head_dim])
        past = ops.read_value(nothing, name, ov.Type.f32, shape)
        past = ops.gather(past, self._beams, ops.constant(np.int64(0)))
        whole = ops.concat([past, new], 2)
        self._assignments.append(ops.assign(whole, name))
        if num_copies == 1:
            return whole
        num_tokens = ops.gather(ops.shape_of(whole), ints(2), ints(0))
        copied = ops.broadcast(
            ops.unsqueeze(whole, ints(2)),
            ops.concat(
                [self._num_rows, ints(num_kv_heads, num_copies), num_tokens, ints(head_dim)], 0
            ),
        )
        shape = ints(0, architecture.num_heads, -1, head_dim)
        return ops.reshape(copied, shape, special_zero=True)

    def _attention_mask(self) -> Any:
        """Return a mask of the padding; GenAI replaces it, so it need not be causal."""
        mask = ops.convert(self._parameter("attention_mask", [-1, -1], np.int64), "f32")
        bias = ops.multiply(
            ops.subtract(mask, ops.constant(np.float32(1))), ops.constant(np.float32(MASKED))
        )
        return ops.unsqueeze(bias, ints(1, 2))


def ints(*values: int) -> Any:
    """Return a constant vector."""
    return ops.constant(np.array(values, np.int64))


def save_ir(architecture: Architecture, weights: PackedWeights, directory: Path) -> None:
    """Write openvino_model.xml and .bin to *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    graph = StatefulGraphBuilder(architecture, weights).build()
    ov.save_model(graph, directory / "openvino_model.xml", compress_to_fp16=False)
    saved_bytes = (directory / "openvino_model.bin").stat().st_size
    if saved_bytes < weights.content.nbytes // 2:
        raise RuntimeError(
            f"The IR has {saved_bytes} bytes of {weights.content.nbytes}: equal matrices are kept "
            "once in it, and would be read from the processor's caches."
        )
