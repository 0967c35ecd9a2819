"""Writes a checkpoint of Llama-3.2-1B's shape with random weights, to measure speed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stillhouse.engines.openvino.graph.architecture import TensorRole, read_architecture

if TYPE_CHECKING:
    from pathlib import Path

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
}
NUM_VALUES = 256  # of real weights: one random byte each, as a billion normal samples take minutes


def make_checkpoint(directory: Path, shape: str) -> None:
    """Write config.json and model.safetensors in bf16 to *directory*, unless they exist."""
    if (directory / "model.safetensors").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": LLAMA3_SCALING,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        **SHAPES[shape],
    }
    (directory / "config.json").write_text(json.dumps(config))
    header: dict[str, Any] = {}
    end = 0
    tensors = list(read_architecture(directory).tensors())
    for spec in tensors:
        begin, end = end, end + 2 * math.prod(spec.shape)
        header[spec.name] = {
            "dtype": "BF16",
            "shape": spec.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    part = directory / "model.safetensors.part"
    generator = np.random.Generator(np.random.SFC64(0))
    drawn = generator.normal(0, 0.02, NUM_VALUES).astype(np.float32)
    noise = (drawn.view(np.uint32) >> 16).astype(np.uint16)
    one = np.uint16(0x3F80)  # 1.0
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for spec in tensors:
            size = math.prod(spec.shape)
            is_norm = spec.role is TensorRole.VECTOR
            # No two matrices are equal: OpenVINO would store equal ones once, and read less memory.
            values = (
                np.full(size, one)
                if is_norm
                else noise[generator.integers(256, size=size, dtype=np.uint8)]
            )
            file.write(values.tobytes())
    part.rename(directory / "model.safetensors")
