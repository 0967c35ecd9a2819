"""
Converts a Llama checkpoint to GGUF Q8_0, for llama-server: ``gguf_file.py CHECKPOINT OUTPUT``.

It runs in llama-server's own environment, without stillhouse, and does what llama.cpp's
convert_hf_to_gguf.py does to such a model: rows of queries and keys are permuted, as llama.cpp
rotates neighbours where Hugging Face rotates halves; Llama 3's frequency scaling becomes a tensor
of factors; every matrix becomes Q8_0, and vectors stay float32.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}
ROWS_AT_ONCE = 8192  # of the largest matrix, whose float32 form would take a gigabyte


def main() -> None:
    """Write the file under a temporary name, and rename it when it is complete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    config = json.loads((arguments.checkpoint / "config.json").read_text())
    part = arguments.output.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    add_shape(writer, config)
    add_vocabulary(writer, arguments.checkpoint)
    add_weights(writer, config, arguments.checkpoint / "model.safetensors")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(arguments.output)


def add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Write the model's shape into the metadata."""
    writer.add_name("random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Path) -> None:
    """Write the vocabulary of tokenizer.json, which has no merges."""
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocab = tokenizer["model"]["vocab"] | special
    words = sorted(vocab, key=lambda word: vocab[word])
    kinds = [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    writer.add_token_merges(["w 1"])  # llama.cpp refuses an empty list
    names = json.loads((checkpoint / "tokenizer_config.json").read_text())
    writer.add_bos_token_id(special[names["bos_token"]])
    writer.add_eos_token_id(special[names["eos_token"]])
    writer.add_add_bos_token(False)


def add_weights(writer: gguf.GGUFWriter, config: dict[str, Any], source: Path) -> None:
    """Quantise every matrix of *source*."""
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for name, bits in read_bf16(source).items():
        if bits.ndim == 1:
            writer.add_tensor(gguf_name(name), as_float(bits))
            continue
        rows = bits
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            rows = neighbours_for_halves(bits, head_dim=config["head_dim"])
        quantised = np.concatenate(
            [
                gguf.quantize(as_float(rows[i : i + ROWS_AT_ONCE]), gguf.GGMLQuantizationType.Q8_0)
                for i in range(0, len(rows), ROWS_AT_ONCE)
            ]
        )
        writer.add_tensor(gguf_name(name), quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def read_bf16(source: Path) -> dict[str, NDArray[np.uint16]]:
    """Map the tensors of a safetensors file, as the bits of bfloat16."""
    content = np.memmap(source, np.uint8, mode="r")
    begin = 8 + int(content[:8].view(np.uint64)[0])
    header = json.loads(content[8:begin].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            raise SystemExit(f"{name} is {entry['dtype']}; it must be BF16.")
        first, last = (begin + offset for offset in entry["data_offsets"])
        # A copy, as the map's values need not be aligned to two bytes.
        bits = np.frombuffer(content[first:last].tobytes(), np.uint16)
        tensors[name] = bits.reshape(entry["shape"])
    return tensors


def as_float(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Widen bfloat16 to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def neighbours_for_halves(rows: NDArray[np.uint16], *, head_dim: int) -> NDArray[np.uint16]:
    """Move the two rows that are rotated together next to each other, in every head."""
    halves = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def rope_factors(config: dict[str, Any]) -> NDArray[np.float32] | None:
    """Return Llama 3's factor of each rotary frequency; None without scaling."""
    scaling = config.get("rope_scaling")
    if scaling is None:
        return None
    head_dim = config["head_dim"]
    waves = 1.0 / config["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    num_turns = scaling["original_max_position_embeddings"] * waves / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = np.clip((num_turns - low) / (high - low), 0.0, 1.0)
    factors: NDArray[np.float64] = 1.0 / (keep + (1.0 - keep) / scaling["factor"])
    return factors.astype(np.float32)


def gguf_name(name: str) -> str:
    """Translate a tensor's name, ``.weight`` included."""
    if name in NAMES:
        return NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


if __name__ == "__main__":
    main()
