"""What config.json may say, and what is answered to the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.engines.openvino.graph.architecture import Architecture, read_architecture
from stillhouse.errors import CheckpointError
from tests.random_checkpoint import LLAMA3_SCALING, LLAMA_CONFIG, QWEN2_CONFIG

if TYPE_CHECKING:
    from pathlib import Path


def read(directory: Path, config: dict[str, Any]) -> Architecture:
    (directory / "config.json").write_text(json.dumps(config))
    return read_architecture(directory)


def test_a_llama_config_is_understood(tmp_path):
    """DeepSeek-R1-Distill-Llama-8B's config.json, as published."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {**LLAMA3_SCALING, "original_max_position_embeddings": 8192},
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 128256,
    }
    architecture = read(tmp_path, config)
    assert (128, 131072) == (architecture.head_dim, architecture.context_length)
    names = [spec.name for spec in architecture.tensors()]
    assert 3 + 32 * 9 == len(names)
    assert not any(name.endswith(".bias") for name in names)


def test_a_qwen2_config_is_understood(tmp_path):
    """DeepSeek-R1-Distill-Qwen-1.5B's config.json, as published: no scaling, no window, biases."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "max_position_embeddings": 131072,
        "max_window_layers": 21,
        "model_type": "qwen2",
        "num_attention_heads": 12,
        "num_hidden_layers": 28,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    }
    architecture = read(tmp_path, config)
    assert {0} == set(architecture.sliding_windows)
    shapes = {spec.name: spec.shape for spec in architecture.tensors()}
    assert (256,) == shapes["model.layers.27.self_attn.v_proj.bias"]
    assert "model.layers.27.self_attn.o_proj.bias" not in shapes


def test_a_tied_head_has_no_tensor_of_its_own(tmp_path):
    """A tied checkpoint needs no lm_head, an untied one does."""
    for is_tied in (True, False):
        architecture = read(tmp_path, {**LLAMA_CONFIG, "tie_word_embeddings": is_tied})
        names = {spec.name for spec in architecture.tensors()}
        assert is_tied is ("lm_head.weight" not in names)


@pytest.mark.parametrize(
    ("scaling", "context_length"),
    [
        (None, 512),
        (LLAMA3_SCALING, 512),
        ({"type": "linear", "factor": 2.0}, 1024),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 2048),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}, 512),
    ],
)
def test_scaling_lengthens_the_context(scaling, context_length, tmp_path):
    """The context is what the scaled positions reach, as vLLM counts it."""
    architecture = read(tmp_path, {**LLAMA_CONFIG, "rope_scaling": scaling})
    assert context_length == architecture.context_length


def test_rope_parameters_of_transformers_5_are_read(tmp_path):
    """Newer checkpoints keep theta and scaling in one object; they mean the same."""
    config = {key: value for key, value in LLAMA_CONFIG.items() if not key.startswith("rope")}
    old = read(tmp_path, {**config, "rope_theta": 5e5, "rope_scaling": LLAMA3_SCALING})
    new = read(tmp_path, {**config, "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 5e5}})
    assert old.rotary.inverse_frequencies.tolist() == new.rotary.inverse_frequencies.tolist()


def test_sliding_windows_begin_where_told(tmp_path):
    """Qwen2 uses full attention in its first `max_window_layers` layers."""
    config = {**QWEN2_CONFIG, "use_sliding_window": True, "max_window_layers": 1}
    assert (0, 512) == read(tmp_path, config).sliding_windows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, r'model_type is "mamba"; it must be "llama" or "qwen2"'),
        ({"model_type": None}, "model_type is missing"),
        ({"hidden_size": "64"}, r'hidden_size is "64"; it must be an integer of at least 1'),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is true"),
        ({"vocab_size": 1.5}, "vocab_size is 1.5"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; it must be a divisor of .* 4"),
        ({"head_dim": 31}, "head_dim is 31; it must be even"),
        ({"head_dim": None, "hidden_size": 65}, "hidden_size is 65; it must be a multiple"),
        ({"hidden_act": "gelu"}, r'hidden_act is "gelu"; it must be "silu"'),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"rope_theta": "big"}, "rope_theta"),
        ({"rope_scaling": "llama3"}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "longrope"}}, r'rope_scaling: rope_type is "longrope"'),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling: factor is missing"),
        ({"rope_scaling": {**LLAMA3_SCALING, "high_freq_factor": 1.0}}, "high_freq_factor is 1.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"use_sliding_window": True}, "sliding_window is missing"),
    ],
)
def test_what_is_not_understood_is_named(change, message, tmp_path):
    """The error names the file, the key, its value and what would be right."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, {**LLAMA_CONFIG, **change})
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, " " * 2**21])
def test_a_config_that_is_no_object_is_refused(text, tmp_path):
    """Neither broken JSON nor a huge or deep file gets further."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_architecture(tmp_path)


def test_a_missing_config_is_named(tmp_path):
    """The error names the file that was looked for."""
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        read_architecture(tmp_path)
