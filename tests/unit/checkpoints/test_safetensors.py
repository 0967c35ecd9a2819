"""Safetensors files, sound and otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stillhouse.checkpoints.safetensors import open_checkpoint, open_file
from stillhouse.errors import CheckpointError
from tests.random_checkpoint import write_safetensors


def write_raw(path, header, data=b"\x00" * 16, *, header_bytes=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if header_bytes is None else header_bytes
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def entry(**fields):
    return {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **fields}}


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_what_is_written_is_read(dtype, tmp_path):
    """Every kind of float reads back as float32, whole or by rows."""
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    path = tmp_path / "model.safetensors"
    stored = write_safetensors(path, {"a": values[:1, 0], "w": values}, dtype=dtype)
    tensors = open_file(path)
    np.testing.assert_array_equal(stored["w"], tensors["w"].read())
    np.testing.assert_array_equal(stored["w"][1:3], tensors["w"].read(slice(1, 3)))
    np.testing.assert_allclose(values, tensors["w"].read(), rtol=0.01)


def test_a_sharded_checkpoint_is_one(tmp_path):
    """The index's files together hold the tensors."""
    ones = np.ones((2, 2), np.float32)
    write_safetensors(tmp_path / "1.safetensors", {"a": ones})
    write_safetensors(tmp_path / "2.safetensors", {"b": 2 * ones})
    weight_map = {"a": "1.safetensors", "b": "2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    tensors = open_checkpoint(tmp_path)
    assert {"a": 1.0, "b": 2.0} == {name: t.read()[0, 0] for name, t in tensors.items()}


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../secret.safetensors"}}',
        '{"weight_map": {"a": "gone.safetensors"}}',
    ],
)
def test_a_bad_index_is_refused(index, tmp_path):
    """An index that is no map of files beside it is the checkpoint's fault."""
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"\xff\xff",
        b"[1]",
        b"[" * 100_000,
        {"w": None},
        {"w": {"dtype": "F32", "shape": [2, 2]}},
        entry(dtype="X1"),
        entry(dtype=["F32"]),
        entry(shape=[2, -2]),
        entry(shape=[2, True]),
        entry(shape=[2, 2.0]),
        entry(shape=[2, 3]),
        entry(shape=[2**40, 2**40]),
        entry(data_offsets=[0, 17]),
        entry(data_offsets=[4, 20]),
        entry(data_offsets=[16, 0]),
        entry(data_offsets=[-16, 0]),
        entry(data_offsets=[0]),
        entry(data_offsets=["0", "16"]),
    ],
)
def test_a_header_that_lies_is_refused(header, tmp_path):
    """Nothing outside of the file is ever read, whatever the header says."""
    path = write_raw(tmp_path / "model.safetensors", header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_file(path)


@pytest.mark.parametrize("header_bytes", [0, 1000, 10**8 + 1, 2**64 - 1])
def test_a_header_of_the_wrong_length_is_refused(header_bytes, tmp_path):
    """The header must be inside of the file and of a sane size."""
    path = write_raw(tmp_path / "model.safetensors", entry(), header_bytes=header_bytes)
    with pytest.raises(CheckpointError):
        open_file(path)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x08\x00\x00\x00\x00\x00\x00\x00"])
def test_a_file_cut_short_is_refused(content, tmp_path):
    """A download that broke off is told from a file that is whole."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        open_file(path)


def test_a_missing_file_is_named(tmp_path):
    """The error names the file that was looked for."""
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_checkpoint(tmp_path)


def test_integers_are_no_weights(tmp_path):
    """A tensor of another kind is listed, but not read as numbers it does not hold."""
    path = write_raw(tmp_path / "model.safetensors", entry(dtype="I32"))
    with pytest.raises(CheckpointError, match="I32"):
        open_file(path)["w"].read()
