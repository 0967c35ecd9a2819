"""Writes one model of random weights in the three formats that the engines read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoints.chat_tokenizer import add_tokenizer
from benchmarks.checkpoints.openvino_ir import save_ir
from benchmarks.checkpoints.random_weights import make_checkpoint
from stillhouse.engines.openvino.graph.architecture import read_architecture
from stillhouse.engines.openvino.graph.weights_cache import load_weights
from stillhouse.engines.openvino.settings import EngineSettings

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Forms:
    """
    The paths of the same weights in three formats.

    Args:
        checkpoint: safetensors in bf16 with a tokenizer, which stillhouse packs to int8.
        cache: The folder of the packed weights.
        gguf: Q8_0, for llama-server.
        ir: OpenVINO's own format of stillhouse's packed weights, for openvino-genai.

    """

    checkpoint: Path
    cache: Path
    gguf: Path
    ir: Path
    vocab_size: int


def forms(place: Path) -> Forms:
    """Return the paths of the formats, whether or not the files exist."""
    config = json.loads((place / "config.json").read_text())
    return Forms(
        place, place / "cache", place / "q8_0.gguf", place / "ir-int8", config["vocab_size"]
    )


def make_safetensors(place: Path, shape: str) -> Forms:
    """Write the checkpoint to *place*, unless it exists."""
    make_checkpoint(place, shape)
    if not (place / "tokenizer.json").exists():
        add_tokenizer(place)
    return forms(place)


def make_gguf(found: Forms, python: Path) -> None:
    """Write the GGUF file with the interpreter of llama-server's environment."""
    if not found.gguf.exists():
        command = [python, HERE / "gguf_file.py", found.checkpoint, found.gguf]
        subprocess.run(command, check=True)


def make_ir(found: Forms, *, num_threads: int) -> None:
    """Write OpenVINO's format in a child process, which returns its memory afterwards."""
    if not (found.ir / "openvino_model.xml").exists():
        command = [sys.executable, "-m", __spec__.name, str(found.checkpoint), str(num_threads)]
        subprocess.run(command, check=True)


def write_ir(found: Forms, *, num_threads: int) -> None:
    """Pack the weights and write them as IR."""
    settings = EngineSettings(checkpoint_dir=found.checkpoint, cache_dir=found.cache)
    architecture = read_architecture(found.checkpoint)
    weights = load_weights(
        settings, architecture, num_threads=num_threads, on_progress=lambda _: None
    )
    save_ir(architecture, weights, found.ir)


if __name__ == "__main__":
    write_ir(forms(Path(sys.argv[1])), num_threads=int(sys.argv[2]))
