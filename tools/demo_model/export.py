"""Writes the trained model as a Hugging Face checkpoint, each file in one stroke."""

import json
from pathlib import Path

from model import Llama
from safetensors.torch import save
from tokenizer import BOS, EOS, PAD, tokenizer_config
from tokenizers import Tokenizer

SHARPNESS = 2.0  # of the logits: what is asked for at temperature 1.0 is sampled as at 0.5


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def config(model: Llama, tokenizer: Tokenizer) -> dict[str, object]:
    """config.json of a LlamaForCausalLM."""
    shape = model.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(EOS),
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "mlp_bias": False,
        "model_type": "llama",
        "pad_token_id": tokenizer.token_to_id(PAD),
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        **shape.as_dict(),
    }


def export(model: Llama, tokenizer: Tokenizer, folder: Path) -> None:
    """config, weights in f16, tokenizer and generation defaults; the card is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": weight.half() for name, weight in model.state_dict().items()}
    weights["model.norm.weight"] = (model.norm.weight.detach() * SHARPNESS).half()
    _write(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    _write(folder / "config.json", _json(config(model, tokenizer)))
    _write(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    settings = tokenizer_config(model.shape.max_position_embeddings)
    _write(folder / "tokenizer_config.json", _json(settings))
    generation = {
        "bos_token_id": tokenizer.token_to_id(BOS),
        "do_sample": True,
        "eos_token_id": tokenizer.token_to_id(EOS),
        "temperature": 0.6,
        "top_p": 0.95,
    }
    _write(folder / "generation_config.json", _json(generation))
