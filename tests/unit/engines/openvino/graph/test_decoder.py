"""The compiled graph against a forward pass in plain numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.graph.architecture import read_architecture
from stillhouse.engines.openvino.graph.decoder import Decoder, activation_group_size
from stillhouse.engines.openvino.graph.weights import PackedTensor, PackedWeights
from stillhouse.engines.openvino.graph.weights_cache import load_weights
from stillhouse.engines.openvino.scheduling.scheduler import Slice
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.settings import EngineSettings, Precision, WeightFormat
from stillhouse.engines.openvino.speculation.drafts import Draft
from tests.random_checkpoint import LLAMA_CONFIG, QWEN2_CONFIG, write_checkpoint
from tests.unit.engines.openvino.reference_decoder import reference_logits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama3-tied": LLAMA_CONFIG,
    "llama3-untied": {**LLAMA_CONFIG, "tie_word_embeddings": False},
    "llama-biases": {**LLAMA_CONFIG, "attention_bias": True, "mlp_bias": True},
    "llama-linear": {**LLAMA_CONFIG, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "llama-plain-head-16": {
        **LLAMA_CONFIG, "rope_scaling": None, "head_dim": 16, "num_key_value_heads": 1,
    },
    "qwen2-untied": QWEN2_CONFIG,
    "qwen2-tied": {**QWEN2_CONFIG, "tie_word_embeddings": True},
    "qwen2-yarn": {**QWEN2_CONFIG, "rope_theta": 10000.0, "rope_scaling": YARN},
    "qwen2-sliding": {
        **QWEN2_CONFIG, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1,
    },
}  # fmt: skip


def make_decoder(directory: Path, weights: WeightFormat, precision: Precision) -> Decoder:
    settings = EngineSettings(
        checkpoint_dir=directory, cache_dir=directory, weights=weights, precision=precision
    )
    architecture = read_architecture(directory)
    packed = load_weights(settings, architecture, num_threads=1, on_progress=lambda _: None)
    decoder = Decoder(architecture, packed, num_threads=1, precision=precision)
    decoder.allocate_cache(8)
    return decoder


def make_sequence(decoder: Decoder, token_ids: list[int], blocks: list[int]) -> Sequence:
    request = GenerateRequest("r", token_ids, 1)
    sequence = Sequence(1, request, block_size=decoder.block_size, generator=None)
    sequence.block_ids.extend(blocks)
    return sequence


def logits_after_each_token(decoder: Decoder, token_ids: list[int]) -> NDArray[np.float32]:
    """Prefill to the middle at once, in blocks out of order, then go on token by token."""
    rows = []
    middle = len(token_ids) // 2
    for end in [middle, *range(middle + 1, len(token_ids) + 1)]:
        sequence = make_sequence(decoder, token_ids[:end], [5, 2, 7])
        sequence.num_computed = 0 if end == middle else end - 1
        part = Slice.of(sequence, sequence.num_uncomputed)
        rows.append(decoder.run([part])[0].copy())
    return np.array(rows)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_logits_are_those_of_the_reference(config, tmp_path):
    """Every supported kind of decoder computes what the papers say, prefill and decode alike."""
    token_ids = [int(t) for t in np.random.default_rng(3).integers(0, 199, 80)]
    weights = write_checkpoint(tmp_path, config, dtype="F16")
    decoder = make_decoder(tmp_path, WeightFormat.F16, Precision.F32)
    expected = reference_logits(config, weights, token_ids)[len(token_ids) // 2 - 1 :]
    actual = logits_after_each_token(decoder, token_ids)
    np.testing.assert_allclose(actual, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("weights", [WeightFormat.INT8, WeightFormat.INT4])
@pytest.mark.parametrize("precision", list(Precision))
def test_quantised_logits_stay_close(weights, precision, tmp_path):
    """Quantised weights, activations and cache cost accuracy, but little."""
    token_ids = [int(t) for t in np.random.default_rng(3).integers(0, 199, 80)]
    exact = write_checkpoint(tmp_path, LLAMA_CONFIG)
    decoder = make_decoder(tmp_path, weights, precision)
    expected = reference_logits(LLAMA_CONFIG, exact, token_ids)[len(token_ids) // 2 - 1 :]
    actual = logits_after_each_token(decoder, token_ids)
    error = np.sqrt(np.mean((actual - expected) ** 2)) / expected.std()
    assert error < (0.1 if weights is WeightFormat.INT8 else 0.7)


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("i8", (512, 896), 64),
        ("i8", (512, 96), 32),
        ("i4", (512, 7, 64), 64),
        ("i4", (512, 3, 32), 32),
        ("f32", (100,), 64),
    ],
)
def test_activations_share_a_scale_where_weights_do(kind, shape, expected):
    """A group of activations never spans two groups of weights, nor the end of a row."""
    index = {
        "a": PackedTensor("i8", (128, 128), 0),
        "a.scale": PackedTensor("f16", (128, 1), 0),
        "b": PackedTensor(kind, shape, 0),
    }
    assert expected == activation_group_size(PackedWeights(index, np.zeros(0, np.uint8)))


def test_a_batch_computes_each_sequence_alone(tmp_path):
    """Sequences of different lengths and phases in one batch do not see each other."""
    config = {**LLAMA_CONFIG, "tie_word_embeddings": False}
    weights = write_checkpoint(tmp_path, config, dtype="F16")
    decoder = make_decoder(tmp_path, WeightFormat.F16, Precision.F32)
    prompts = [[7, 8, 9], list(range(40)), [5] * 33]
    tables = [[3], [0, 6], [1, 4]]
    sequences = [make_sequence(decoder, p, t) for p, t in zip(prompts, tables, strict=True)]
    decoder.run([Slice.of(sequences[1], 39)])
    sequences[1].num_computed = 39
    batch = [Slice.of(sequences[0], 3), Slice.of(sequences[1], 1), Slice.of(sequences[2], 20)]
    actual = decoder.run(batch)
    expected = [reference_logits(config, weights, p)[-1] for p in prompts[:2]]
    np.testing.assert_allclose(actual, expected, atol=2e-4 * np.abs(expected).max())


def test_the_warm_up_knows_what_steps_take(tmp_path):
    """The first request's steps are chosen from what a decoding step and a block took."""
    write_checkpoint(tmp_path, LLAMA_CONFIG)
    decoder = make_decoder(tmp_path, WeightFormat.INT8, Precision.DEFAULT)
    assert decoder.step_times.predict_s(1) is None
    decoder.warm_up()
    one_s, block_s = (decoder.step_times.predict_s(n) for n in (1, decoder.block_size))
    assert one_s is not None
    assert block_s is not None
    assert 0 < one_s <= block_s


def test_every_run_teaches_what_its_size_takes(tmp_path):
    """A run counts with all its tokens, draft tokens among them."""
    write_checkpoint(tmp_path, LLAMA_CONFIG)
    decoder = make_decoder(tmp_path, WeightFormat.INT8, Precision.F32)
    sequence = make_sequence(decoder, list(range(10)), [3])
    decoder.run([Slice(sequence, 0, 6, is_sampled=True, draft=Draft((1, 2), 2))])
    assert [(8, 1)] == [(p.num_tokens, p.at_step) for p in decoder.step_times._buckets.values()]
