"""Builds the decoder's OpenVINO graph with paged attention straight from packed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.op import _PagedAttentionExtension

from stillhouse.engines.openvino.graph.weights import SCALE_SUFFIX, PackedWeights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from stillhouse.engines.openvino.graph.architecture import Architecture

Node = Any  # openvino's own stubs are incomplete

BATCH_INPUTS = ("past_lens", "subsequence_begins", "block_indices", "block_indices_begins")


def build_graph(architecture: Architecture, weights: PackedWeights) -> ov.Model:
    """
    Returns a model from token ids and block tables to logits.

    Inputs, where a batch has `tokens` tokens of `sequences` sequences laid end to end:
        input_ids, position_ids: int64, shape (tokens,).
        past_lens: int32, shape (sequences,); tokens of each that the KV cache holds already.
        subsequence_begins: int32, shape (sequences + 1,); where each one's tokens start.
        block_indices: int32; the block tables of all sequences, end to end.
        block_indices_begins: int32, shape (sequences + 1,); where each one's table starts.
        max_context_len: int32 scalar; past and new tokens of the longest.
        sampled_tokens_indices: int64; the tokens whose logits are wanted.
        key_cache.N, value_cache.N: one pair per layer; shape and type are the plugin's choice
            and known after compiling.

    Output:
        logits: float32, shape (sampled tokens, 1, vocabulary).

    Source:
        PagedAttention: arXiv 2309.06180. The operator's inputs are those of OpenVINO 2026.4.

    """
    return GraphBuilder(architecture, weights).build()


class GraphBuilder:
    """
    Builds the decoder's graph layer by layer, from ids to logits.

    Its methods are the nodes of one graph over the same inputs and weights; a split would pass
    those around.

    Shapes below are (tokens, 1, features) unless said: a batch is many sequences of one token,
    which the attention alone knows to be neighbours.
    """

    def __init__(self, architecture: Architecture, weights: PackedWeights) -> None:
        self._architecture = architecture
        self._weights = weights
        self._parameters: list[Node] = []
        self._ids = self._parameter("input_ids", [-1], np.int64)
        self._positions = self._parameter("position_ids", [-1], np.int64)
        self._batch = [self._parameter(name, [-1], np.int32) for name in BATCH_INPUTS]
        self._max_context_len = self._parameter("max_context_len", [], np.int32)
        self._cosines, self._sines = self._rotary_waves(ops.unsqueeze(self._positions, _ints(1)))

    def build(self) -> ov.Model:
        """Returns the whole model."""
        embedding = self._matrix("model.embed_tokens.weight")
        x = self._layers(ops.gather(embedding, ops.unsqueeze(self._ids, _ints(1)), _ints(0)))
        sampled = self._parameter("sampled_tokens_indices", [-1], np.int64)
        logits = self._logits(ops.gather(x, sampled, _ints(0)), embedding)
        return ov.Model([logits], self._parameters, "decoder")

    def _layers(self, x: Node) -> Node:
        for layer in range(self._architecture.num_layers):
            prefix = f"model.layers.{layer}."
            x = ops.add(x, self._attention(layer, self._norm(x, f"{prefix}input_layernorm")))
            h = self._norm(x, f"{prefix}post_attention_layernorm")
            x = ops.add(x, self._feed_forward(prefix, h))
        return self._norm(x, "model.norm")

    def _logits(self, x: Node, embedding: Node) -> Node:
        is_tied = self._architecture.is_head_tied
        head = embedding if is_tied else self._matrix("lm_head.weight")
        logits = ops.result(ops.matmul(x, head, transpose_a=False, transpose_b=True))
        logits.output(0).get_tensor().set_names({"logits"})
        return logits

    def _attention(self, layer: int, x: Node) -> Node:
        architecture, prefix = self._architecture, f"model.layers.{layer}.self_attn."
        num_heads, num_kv_heads = architecture.num_heads, architecture.num_kv_heads
        queries = self._rotate(self._heads(self._linear(x, f"{prefix}q_proj"), num_heads))
        keys = self._rotate(self._heads(self._linear(x, f"{prefix}k_proj"), num_kv_heads))
        attended = self._paged_attention(
            layer,
            self._join(ops.transpose(queries, _ints(0, 2, 1, 3)), num_heads),
            self._join(ops.transpose(keys, _ints(0, 2, 1, 3)), num_kv_heads),
            self._join(self._linear(x, f"{prefix}v_proj"), num_kv_heads),
        )
        return self._linear(ops.unsqueeze(attended, _ints(1)), f"{prefix}o_proj")

    def _paged_attention(self, layer: int, queries: Node, keys: Node, values: Node) -> Node:
        """Attends over the cache; all in and out have shape (tokens, heads * head_dim)."""
        architecture = self._architecture
        # Queries and keys both carry the rotary magnitude, so their products carry its square.
        scale = architecture.rotary.magnitude**2 / architecture.head_dim**0.5
        ints, floats = _empty(np.int32), _empty(np.float32)
        inputs = [
            queries,
            keys,
            values,
            self._parameter(f"key_cache.{layer}", [-1] * 4, ov.Type.dynamic),
            self._parameter(f"value_cache.{layer}", [-1] * 4, ov.Type.dynamic),
            *self._batch,
            _scalar(scale, np.float32),
            _scalar(architecture.sliding_windows[layer], np.int32),
            floats,  # alibi_slopes
            self._max_context_len,
            ints,  # score_aggregation_window
            ints,  # rotated_block_indices
            ints,  # rotation_deltas
            floats,  # rotation_trig_lut
            floats,  # xattention_threshold
            _scalar(0, np.int32),  # xattention_block_size
            _scalar(0, np.int32),  # xattention_stride
            ops.constant(np.zeros((0, 0, 0, 0), np.float32)),  # sinks
            _scalar(0, np.int32),  # adaptive_rkv_start_size
            ints,  # adaptive_rkv_evictable_sizes
            ints,  # adaptive_rkv_diversity_block_set_indices
            ints,  # adaptive_rkv_diversity_block_set_indices_begins
            ints,  # token_type_ids
            _empty(np.uint8),  # qq_bias
            ints,  # qq_bias_begins
        ]
        attention = _PagedAttentionExtension([node.output(0) for node in inputs])
        for part in ("k", "v"):
            attention.get_rt_info()[f"num_{part}_heads"] = architecture.num_kv_heads
            attention.get_rt_info()[f"{part}_head_size"] = architecture.head_dim
        return attention.output(0)

    def _feed_forward(self, prefix: str, x: Node) -> Node:
        gate = ops.swish(self._linear(x, f"{prefix}mlp.gate_proj"))
        gated = ops.multiply(gate, self._linear(x, f"{prefix}mlp.up_proj"))
        return self._linear(gated, f"{prefix}mlp.down_proj")

    def _rotary_waves(self, positions: Node) -> tuple[Node, Node]:
        """Returns cosine and sine of the angles at (tokens, 1), shape (tokens, 1, 1, head_dim)."""
        frequencies = self._architecture.rotary.inverse_frequencies.reshape(1, 1, -1)
        positions = ops.unsqueeze(ops.convert(positions, "f32"), _ints(2))
        angles = ops.multiply(positions, ops.constant(frequencies))
        angles = ops.concat([angles, angles], -1)
        cosines, sines = (ops.unsqueeze(wave(angles), _ints(1)) for wave in (ops.cos, ops.sin))
        return cosines, sines

    def _heads(self, x: Node, num_heads: int) -> Node:
        """Splits the features, shape (tokens, heads, 1, head_dim)."""
        shape = _ints(0, 0, num_heads, self._architecture.head_dim)
        return ops.transpose(ops.reshape(x, shape, special_zero=True), _ints(0, 2, 1, 3))

    def _rotate(self, x: Node) -> Node:
        """Turns every head by its position; the pairs are (i, i + head_dim / 2)."""
        half = self._architecture.head_dim // 2
        first = ops.slice(x, _ints(0), _ints(half), _ints(1), _ints(3))
        second = ops.slice(x, _ints(half), _ints(2**31 - 1), _ints(1), _ints(3))
        crossed = ops.concat([ops.multiply(second, _scalar(-1, np.float32)), first], -1)
        return ops.add(ops.multiply(x, self._cosines), ops.multiply(crossed, self._sines))

    def _join(self, x: Node, num_heads: int) -> Node:
        """Leaves out every axis but the tokens' and the features', the heads side by side."""
        shape = _ints(-1, num_heads * self._architecture.head_dim)
        return ops.reshape(x, shape, special_zero=False)

    def _norm(self, x: Node, name: str) -> Node:
        squares = ops.power(x, _scalar(2, np.float32))
        mean = ops.reduce_mean(squares, _ints(-1), keep_dims=True)
        root = ops.sqrt(ops.add(mean, _scalar(self._architecture.norm_epsilon, np.float32)))
        normed = ops.multiply(x, ops.divide(_scalar(1, np.float32), root))
        return ops.multiply(self._constant(f"{name}.weight"), normed)

    def _linear(self, x: Node, name: str) -> Node:
        y = ops.matmul(x, self._matrix(f"{name}.weight"), transpose_a=False, transpose_b=True)
        bias = f"{name}.bias"
        return ops.add(y, self._constant(bias)) if bias in self._weights.index else y

    def _matrix(self, name: str) -> Node:
        """Returns a float32 matrix (rows, columns) in the form that the plugin keeps compressed."""
        packed = self._weights.index[name]
        values = self._constant(name)
        if packed.kind == "f16":
            return ops.convert(values, "f32")
        scaled = ops.multiply(ops.convert(values, "f16"), self._constant(name + SCALE_SUFFIX))
        if packed.kind == "i4":
            num_rows, num_groups, group_size = packed.shape
            shape = _ints(num_rows, num_groups * group_size)
            scaled = ops.reshape(scaled, shape, special_zero=False)
        return ops.convert(scaled, "f32")

    def _constant(self, name: str) -> Node:
        packed = self._weights.index[name]
        kind = getattr(ov.Type, packed.kind)
        view = self._weights.view(name)
        return ops.constant(ov.Tensor(view, ov.Shape(packed.shape), kind), shared_memory=True)

    def _parameter(self, name: str, shape: Sequence[int], kind: DTypeLike | ov.Type) -> Node:
        parameter = ops.parameter(shape, kind, name=name)
        parameter.output(0).get_tensor().set_names({name})
        self._parameters.append(parameter)
        return parameter


def _scalar(value: float, kind: DTypeLike) -> Node:
    return ops.constant(np.array(value, kind))


def _ints(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


def _empty(kind: DTypeLike) -> Node:
    return ops.constant(np.zeros(0, kind))
