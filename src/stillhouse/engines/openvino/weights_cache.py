"""Packed weights on disk, so that only the first start quantises and later ones map a file."""

from __future__ import annotations

import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
import structlog

from stillhouse.engines.openvino.safetensors import checkpoint_files, open_checkpoint
from stillhouse.engines.openvino.weights import PackedWeights, check_tensors, lay_out, pack
from stillhouse.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stillhouse.engines.frames import Loading
    from stillhouse.engines.openvino.architecture import Architecture
    from stillhouse.engines.openvino.settings import EngineSettings, WeightFormat

FORMAT_VERSION = 1
MAGIC = b"stillhouse-weights"
HEADER_BYTES = 64


def load_weights(
    settings: EngineSettings,
    architecture: Architecture,
    *,
    num_threads: int,
    on_progress: Callable[[Loading], None],
) -> PackedWeights:
    """
    Map the packed weights of a checkpoint; quantise and pack them first where that is not done.

    A cache that was cut short or made by another version is made anew. Bytes that rot later are
    not noticed: reading all of a large file would take longer than the rest of a start.

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or one has another shape.
        ConfigError: The cache cannot be written.

    """
    checkpoint_dir, weight_format = settings.checkpoint_dir, settings.weights
    index, num_bytes = lay_out(architecture, weight_format, start=HEADER_BYTES)
    fingerprint = _fingerprint(checkpoint_dir, weight_format)
    header = (MAGIC + hashlib.sha256(f"{fingerprint} {index}".encode()).digest()).ljust(
        HEADER_BYTES
    )
    path = (
        settings.cache_dir / f"{_family(checkpoint_dir, weight_format)}-{fingerprint[:16]}.weights"
    )

    def fill(content: np.memmap[tuple[int], np.dtype[np.uint8]]) -> None:
        stored = open_checkpoint(checkpoint_dir)
        check_tensors(checkpoint_dir, architecture, stored)
        weights = PackedWeights(index, content)
        pack(weights, stored, num_threads=num_threads, on_progress=on_progress)
        content[:HEADER_BYTES] = np.frombuffer(header, np.uint8)

    if not _is_sound(path, header, num_bytes):
        try:
            _write_once(path, header, num_bytes, fill)
        except OSError as error:
            raise ConfigError(f"cache_dir: {path} cannot be written: {error.strerror}.") from error
        _forget_older(path, _family(checkpoint_dir, weight_format))
    # Copy on write, though nothing is written: OpenVINO refuses memory that is read-only.
    return PackedWeights(index, np.memmap(path, np.uint8, mode="c"))


def _family(checkpoint_dir: Path, weight_format: WeightFormat) -> str:
    """Return what the caches of one checkpoint in one format have in common, however it changed."""
    place = hashlib.sha256(str(checkpoint_dir.resolve()).encode()).hexdigest()
    return f"{checkpoint_dir.resolve().name}-{weight_format}-{place[:8]}"


def _fingerprint(checkpoint_dir: Path, weight_format: WeightFormat) -> str:
    digest = hashlib.sha256(f"{FORMAT_VERSION} {weight_format}".encode())
    try:
        digest.update((checkpoint_dir / "config.json").read_bytes())
        for path in checkpoint_files(checkpoint_dir):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def _is_sound(path: Path, header: bytes, num_bytes: int) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(HEADER_BYTES) == header and path.stat().st_size == num_bytes
    except OSError:
        return False


def _write_once(
    path: Path,
    header: bytes,
    num_bytes: int,
    fill: Callable[[np.memmap[tuple[int], np.dtype[np.uint8]]], None],
) -> None:
    """Let *fill* write the file under another name, which it loses only when it is durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another worker may be packing the same checkpoint
        if _is_sound(path, header, num_bytes):
            return
        file.truncate(0)
        # A disk that is full says so here; later it would be a SIGBUS in the middle of a copy.
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        content = np.memmap(part, np.uint8, mode="r+")
        fill(content)
        content.flush()
        os.fsync(file.fileno())
        part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _forget_older(path: Path, family: str) -> None:
    """Remove what the same checkpoint was packed to before it changed."""
    for older in path.parent.glob(f"{family}-*.weights"):
        if older != path:
            structlog.get_logger().info("weights_cache_removed", path=str(older))
            older.unlink(missing_ok=True)
