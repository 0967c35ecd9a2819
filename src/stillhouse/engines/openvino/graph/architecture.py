"""Reads the shape of a Llama- or Qwen2-family decoder from its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from stillhouse.checkpoints.config_json import ConfigJson
from stillhouse.engines.openvino.graph.rotary import Rotary, read_rotary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL_TYPES = ("llama", "qwen2")


class TensorRole(StrEnum):
    """The role of a tensor, which decides how it may be quantised."""

    EMBEDDING = "embedding"
    MATRIX = "matrix"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that the checkpoint must hold."""

    name: str
    shape: tuple[int, ...]
    role: TensorRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """
    Describes a decoder without its weights.

    Args:
        context_length: Most positions that the model was made for, rotary scaling included.
        sliding_windows: Per layer, how many positions back it sees, itself included; 0 is all.
        has_qkv_bias: Whether the query, key and value projections add a bias.
        has_output_bias: The same for the attention's output projection.
        has_mlp_bias: The same for the three projections of the feed-forward part.
        is_head_tied: Whether the output head is the embedding.

    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_epsilon: float
    context_length: int
    rotary: Rotary
    sliding_windows: tuple[int, ...]
    has_qkv_bias: bool
    has_output_bias: bool
    has_mlp_bias: bool
    is_head_tied: bool

    def tensors(self) -> Iterator[TensorSpec]:
        """Yields every tensor that the checkpoint must hold, in the order of use."""
        vocabulary = (self.vocab_size, self.hidden_size)
        yield TensorSpec("model.embed_tokens.weight", vocabulary, TensorRole.EMBEDDING)
        for layer in range(self.num_layers):
            yield from self._layer_tensors(f"model.layers.{layer}.")
        yield TensorSpec("model.norm.weight", (self.hidden_size,), TensorRole.VECTOR)
        if not self.is_head_tied:
            yield TensorSpec("lm_head.weight", vocabulary, TensorRole.EMBEDDING)

    def _layer_tensors(self, prefix: str) -> Iterator[TensorSpec]:
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        projections = (
            ("self_attn.q_proj", queries, hidden, self.has_qkv_bias),
            ("self_attn.k_proj", keys, hidden, self.has_qkv_bias),
            ("self_attn.v_proj", keys, hidden, self.has_qkv_bias),
            ("self_attn.o_proj", hidden, queries, self.has_output_bias),
            ("mlp.gate_proj", inner, hidden, self.has_mlp_bias),
            ("mlp.up_proj", inner, hidden, self.has_mlp_bias),
            ("mlp.down_proj", hidden, inner, self.has_mlp_bias),
        )
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield TensorSpec(f"{prefix}{name}.weight", (hidden,), TensorRole.VECTOR)
        for name, num_rows, num_columns, has_bias in projections:
            shape = (num_rows, num_columns)
            yield TensorSpec(f"{prefix}{name}.weight", shape, TensorRole.MATRIX)
            if has_bias:
                yield TensorSpec(f"{prefix}{name}.bias", (num_rows,), TensorRole.VECTOR)


def read_architecture(checkpoint_dir: Path) -> Architecture:
    """
    Reads and checks *checkpoint_dir*/config.json.

    Raises:
        CheckpointError: A key is missing, has a wrong value, or asks for what is not built here.

    """
    config = ConfigJson.read(checkpoint_dir / "config.json")
    is_qwen2 = config.choice("model_type", MODEL_TYPES) == "qwen2"
    if config.has("quantization_config"):
        raise config.error("quantization_config", "absent: quantised checkpoints are not read")
    config.choice("hidden_act", ("silu",), default="silu")
    hidden_size = config.integer("hidden_size")
    num_layers = config.integer("num_hidden_layers")
    num_heads = config.integer("num_attention_heads")
    head_dim = _read_head_dim(config, hidden_size=hidden_size, num_heads=num_heads)
    max_positions = config.integer("max_position_embeddings")
    rotary = read_rotary(config, head_dim=head_dim, max_positions=max_positions)
    has_attention_bias = not is_qwen2 and config.flag("attention_bias", default=False)
    return Architecture(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_read_num_kv_heads(config, num_heads=num_heads),
        head_dim=head_dim,
        norm_epsilon=config.positive("rms_norm_eps", default=1e-6),
        context_length=round(max_positions * rotary.context_factor),
        rotary=rotary,
        sliding_windows=_read_sliding_windows(config, num_layers=num_layers),
        has_qkv_bias=is_qwen2 or has_attention_bias,
        has_output_bias=has_attention_bias,
        has_mlp_bias=not is_qwen2 and config.flag("mlp_bias", default=False),
        is_head_tied=config.flag("tie_word_embeddings", default=False),
    )


def _read_head_dim(config: ConfigJson, *, hidden_size: int, num_heads: int) -> int:
    if not config.has("head_dim") and hidden_size % num_heads:
        raise config.error("hidden_size", f"a multiple of num_attention_heads, {num_heads}")
    head_dim = config.integer("head_dim", default=hidden_size // num_heads)
    if head_dim % 2:
        raise config.error("head_dim", "even, as rotary embeddings turn pairs")
    if config.positive("partial_rotary_factor", default=1.0) != 1.0:
        raise config.error("partial_rotary_factor", "1, as all of a head is turned here")
    return head_dim


def _read_num_kv_heads(config: ConfigJson, *, num_heads: int) -> int:
    num_kv_heads = config.integer("num_key_value_heads", default=num_heads)
    if num_heads % num_kv_heads:
        raise config.error("num_key_value_heads", f"a divisor of num_attention_heads, {num_heads}")
    return num_kv_heads


def _read_sliding_windows(config: ConfigJson, *, num_layers: int) -> tuple[int, ...]:
    """Returns Qwen2's windows: from layer `max_window_layers` on, and only if configured."""
    if not config.flag("use_sliding_window", default=False):
        return (0,) * num_layers
    window = config.integer("sliding_window")
    first = min(config.integer("max_window_layers", minimum=0, default=28), num_layers)
    return (0,) * first + (window,) * (num_layers - first)
