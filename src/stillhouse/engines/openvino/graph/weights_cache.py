"""Caches packed weights on disk, so that only the first start quantises them."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import structlog

from stillhouse.checkpoints.safetensors import checkpoint_files, open_checkpoint
from stillhouse.engines.openvino.graph.weights import PackedWeights, check_tensors, lay_out, pack
from stillhouse.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from stillhouse.engines.openvino.graph.architecture import Architecture
    from stillhouse.engines.openvino.settings import EngineSettings
    from stillhouse.engines.worker.frames import Loading

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
    Maps the packed weights of a checkpoint; quantises and packs them first if they are not cached.

    A cache that is truncated or of another version is rebuilt. Later corruption of bytes is not
    detected: reading all of a large file would take longer than the rest of a start.

    Raises:
        CheckpointError: The checkpoint lacks a tensor, or one has another shape.
        ConfigError: The cache cannot be written.

    """
    index, num_bytes = lay_out(architecture, settings.weights, start=HEADER_BYTES)
    cache = _CacheFile.of(settings, layout=str(index), num_bytes=num_bytes)

    def fill(content: NDArray[np.uint8]) -> None:
        stored = open_checkpoint(settings.checkpoint_dir)
        check_tensors(settings.checkpoint_dir, architecture, stored)
        weights = PackedWeights(index, content)
        pack(weights, stored, num_threads=num_threads, on_progress=on_progress)

    if not cache.is_sound():
        try:
            cache.make(fill)
        except OSError as error:
            reason = error.strerror
            raise ConfigError(f"cache_dir: {cache.path} cannot be written: {reason}.") from error
        cache.forget_older()
    # Copy on write, though nothing is written: OpenVINO refuses memory that is read-only.
    return PackedWeights(index, np.memmap(cache.path, np.uint8, mode="c"))


def checkpoint_family(settings: EngineSettings) -> str:
    """Returns the file name prefix of all cached versions of a checkpoint in one format."""
    place = settings.checkpoint_dir.resolve()
    return f"{place.name}-{settings.weights}-{_digest(str(place)).hex()[:8]}"


def checkpoint_fingerprint(settings: EngineSettings) -> str:
    """
    Returns a fingerprint of the checkpoint and the format, without reading the weights.

    Raises:
        CheckpointError: The checkpoint's files are not there.

    """
    parts = [str(settings.weights)]
    try:
        config = (settings.checkpoint_dir / "config.json").read_bytes()
        parts.append(hashlib.sha256(config).hexdigest())
        for path in checkpoint_files(settings.checkpoint_dir):
            status = path.stat()
            parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return _digest("\n".join(parts)).hex()


@dataclass(frozen=True, slots=True)
class _CacheFile:
    """
    The packed weights of one checkpoint in one format.

    Args:
        family: Common file name prefix of all versions of the checkpoint.
        header: First bytes of a valid file.
        num_bytes: Length of a valid file.

    """

    path: Path
    family: str
    header: bytes
    num_bytes: int

    @classmethod
    def of(cls, settings: EngineSettings, *, layout: str, num_bytes: int) -> Self:
        """
        Returns the path of the packed weights, which may not exist yet.

        Raises:
            CheckpointError: The checkpoint's files are not there.

        """
        family = checkpoint_family(settings)
        fingerprint = checkpoint_fingerprint(settings)
        path = settings.cache_dir / f"{family}-{fingerprint[:16]}.weights"
        header = MAGIC + _digest(f"{FORMAT_VERSION} {fingerprint} {layout}")
        return cls(path, family, header.ljust(HEADER_BYTES), num_bytes)

    def is_sound(self) -> bool:
        """Returns whether the file exists and is complete."""
        try:
            with self.path.open("rb") as file:
                is_ours = file.read(HEADER_BYTES) == self.header
            return is_ours and self.path.stat().st_size == self.num_bytes
        except OSError:
            return False

    def make(self, fill: Callable[[NDArray[np.uint8]], None]) -> None:
        """Writes the file with *fill* under a temporary name, and rename it when it is durable."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another worker may be packing the same checkpoint
            if self.is_sound():
                return
            file.truncate(0)
            # A disk that is full says so here; later it would be a SIGBUS in the middle of a copy.
            os.posix_fallocate(file.fileno(), 0, self.num_bytes)
            content = np.memmap(part, np.uint8, mode="r+")
            content[:HEADER_BYTES] = np.frombuffer(self.header, np.uint8)
            fill(content)
            content.flush()
            os.fsync(file.fileno())
            part.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def forget_older(self) -> None:
        """Removes the packed files of earlier versions of the same checkpoint."""
        for older in self.path.parent.glob(f"{glob.escape(self.family)}-*.weights"):
            if older != self.path:
                structlog.get_logger().info("weights_cache_removed", path=str(older))
                older.unlink(missing_ok=True)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
