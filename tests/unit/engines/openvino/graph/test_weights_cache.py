"""Packed weights: made once, found again, never trusted when damaged."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stillhouse.engines.openvino.graph.architecture import read_architecture
from stillhouse.engines.openvino.graph.weights import SCALE_SUFFIX, PackedWeights
from stillhouse.engines.openvino.graph.weights_cache import load_weights
from stillhouse.engines.openvino.settings import EngineSettings, WeightFormat
from stillhouse.errors import CheckpointError, ConfigError
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from stillhouse.engines.worker.frames import Loading

DOWN = "model.layers.0.mlp.down_proj.weight"


def load(
    directory: Path, weights: WeightFormat = WeightFormat.INT8, *, name: str = "checkpoint"
) -> tuple[PackedWeights, list[Loading]]:
    settings = EngineSettings(
        checkpoint_dir=directory / name, cache_dir=directory / "cache", weights=weights
    )
    reports: list[Loading] = []
    architecture = read_architecture(settings.checkpoint_dir)
    packed = load_weights(settings, architecture, num_threads=2, on_progress=reports.append)
    return packed, reports


@pytest.fixture
def stored(tmp_path):
    return write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG, dtype="BF16")


def cached_files(directory: Path) -> list[Path]:
    return sorted((directory / "cache").iterdir())


def test_weights_survive_the_round_trip(stored, tmp_path):
    """What is packed at 8 bits is what was stored, to within half a step; vectors are exact."""
    packed, _ = load(tmp_path)
    integers = packed.view(DOWN).view(np.int8).reshape(stored[DOWN].shape)
    scales = packed.view(DOWN + SCALE_SUFFIX).view(np.float16).astype(np.float32)[:, None]
    assert (np.abs(integers * scales - stored[DOWN]) <= 0.51 * scales).all()
    norm = packed.view("model.norm.weight").view(np.float32)
    np.testing.assert_array_equal(stored["model.norm.weight"], norm)


def test_f16_keeps_what_fits(stored, tmp_path):
    """At 16 bits every matrix is its own rounding to float16."""
    packed, _ = load(tmp_path, WeightFormat.F16)
    actual = packed.view(DOWN).view(np.float16).reshape(stored[DOWN].shape)
    np.testing.assert_array_equal(stored[DOWN].astype(np.float16), actual)


def test_progress_counts_up_to_the_whole(stored, tmp_path):
    """A bar drawn from the reports starts at nothing and ends full."""
    _, reports = load(tmp_path)
    done = [report.num_done for report in reports]
    assert sorted(done) == done
    assert (0, reports[-1].num_total) == (done[0], done[-1])


def test_a_second_start_only_maps(stored, tmp_path):
    """Weights are quantised once; later the same bytes are mapped."""
    first, _ = load(tmp_path)
    again, reports = load(tmp_path)
    assert [] == reports
    np.testing.assert_array_equal(first.content, again.content)
    assert 1 == len(cached_files(tmp_path))


def test_formats_do_not_share_a_file(stored, tmp_path):
    """Going back to a format finds it still packed."""
    load(tmp_path, WeightFormat.INT8)
    load(tmp_path, WeightFormat.INT4)
    assert [] == load(tmp_path, WeightFormat.INT8)[1]
    assert 2 == len(cached_files(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "empty"])
def test_a_damaged_cache_is_made_anew(stored, tmp_path, damage):
    """A file that is not whole is not used."""
    first, _ = load(tmp_path)
    expected = first.content.copy()
    (path,) = cached_files(tmp_path)
    content = path.read_bytes()
    path.unlink()  # the first start still maps the old file
    path.write_bytes(
        {
            "cut": content[:-1],
            "longer": content + b"\x00",
            "header": b"\x00" + content[1:],
            "empty": b"",
        }[damage]
    )
    again, reports = load(tmp_path)
    assert reports
    np.testing.assert_array_equal(expected, again.content)


def test_a_start_that_was_killed_leaves_nothing_behind(stored, tmp_path):
    """What a killed start had written is overwritten by the next."""
    load(tmp_path)
    (path,) = cached_files(tmp_path)
    path.rename(path.with_suffix(".part"))
    _, reports = load(tmp_path)
    assert reports
    assert [path] == cached_files(tmp_path)


def test_a_changed_checkpoint_is_packed_anew(stored, tmp_path):
    """New weights replace the old file, even of the same size."""
    load(tmp_path)
    (old,) = cached_files(tmp_path)
    new = write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG, seed=1, dtype="BF16")
    os.utime(tmp_path / "checkpoint" / "model.safetensors", ns=(1, 1))
    packed, _ = load(tmp_path)
    norm = packed.view("model.norm.weight").view(np.float32)
    np.testing.assert_array_equal(new["model.norm.weight"], norm)
    assert old not in cached_files(tmp_path)
    assert 1 == len(cached_files(tmp_path))


def test_a_name_with_brackets_is_taken_as_it_is(tmp_path):
    """What an older version of that checkpoint was packed to is found, and removed."""
    for seed in range(2):
        write_checkpoint(tmp_path / "m[1]", LLAMA_CONFIG, seed=seed)
        os.utime(tmp_path / "m[1]" / "model.safetensors", ns=(seed, seed))
        load(tmp_path, name="m[1]")
    assert 1 == len(cached_files(tmp_path))


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_that_does_not_match_its_config_is_refused(stored, tmp_path, change):
    """The error names the tensor, and no half-made cache is left to be found."""
    tensors = dict(stored)
    if change == "missing":
        del tensors[DOWN]
    else:
        tensors[DOWN] = tensors[DOWN][:, :-1].copy()
    write_safetensors(tmp_path / "checkpoint" / "model.safetensors", tensors)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=DOWN):
            load(tmp_path)


def test_a_cache_that_cannot_be_written_is_the_operators(stored, tmp_path):
    """The error names the setting and the place."""
    (tmp_path / "cache").write_text("not a directory")
    with pytest.raises(ConfigError, match="cache_dir"):
        load(tmp_path)


def test_config_is_part_of_the_fingerprint(stored, tmp_path):
    """The same tensors under another config.json are another model."""
    load(tmp_path)
    config = {**LLAMA_CONFIG, "rms_norm_eps": 1e-6}
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path)[1]
