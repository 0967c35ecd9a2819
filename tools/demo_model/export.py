"""Writes the trained model as a Hugging Face checkpoint, each file in one stroke."""

import json
from pathlib import Path

from safetensors.torch import save
from tokenizers import Tokenizer

from tools.demo_model.model import Llama
from tools.demo_model.tokenizer import token_id

SHARPNESS = 2.0  # of the logits: what is asked for at temperature 1.0 is sampled as at 0.5


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def config(model: Llama, special_ids: dict[str, int]) -> dict[str, object]:
    """config.json of a LlamaForCausalLM."""
    shape = model.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": special_ids["bos_token"],
        "eos_token_id": special_ids["eos_token"],
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "mlp_bias": False,
        "model_type": "llama",
        "pad_token_id": special_ids["pad_token"],
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        **shape.as_dict(),
    }


def export(model: Llama, tokenizer: Tokenizer, settings: dict[str, object], folder: Path) -> None:
    """
    Config, weights in f16, tokenizer and generation defaults; the card is written by hand.

    Args:
        settings: What becomes tokenizer_config.json.

    """
    folder.mkdir(parents=True, exist_ok=True)
    special_ids = {
        name: token_id(tokenizer, str(settings[name]))
        for name in ("bos_token", "eos_token", "pad_token")
    }
    weights = {f"model.{name}": weight.half() for name, weight in model.state_dict().items()}
    weights["model.norm.weight"] = (model.norm.weight.detach() * SHARPNESS).half()
    _write(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    _write(folder / "config.json", _json(config(model, special_ids)))
    _write(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    _write(folder / "tokenizer_config.json", _json(settings))
    generation = {
        "bos_token_id": special_ids["bos_token"],
        "do_sample": True,
        "eos_token_id": special_ids["eos_token"],
        "temperature": 0.6,
        "top_p": 0.95,
    }
    _write(folder / "generation_config.json", _json(generation))
