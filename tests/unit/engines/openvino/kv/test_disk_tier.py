"""Blocks on disk: private, bounded, and never served when anything about them is wrong."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from stillhouse.engines.openvino.kv.disk_tier import HEADER_BYTES, DiskTier, remove_disk_tiers
from stillhouse.errors import ConfigError
from tests.effort import examples
from tests.unit.engines.openvino.block_memory import BlockMemory

FILE_BYTES = HEADER_BYTES + BlockMemory.block_bytes
TIMEOUT_S = 10.0


def name_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Disk:
    """Processes that follow each other on one folder."""

    def __init__(self, folder: Path, max_files: int = 8, identity: bytes = b"model") -> None:
        self.folder = folder
        self.memory = BlockMemory(2)
        self.disk_tier = DiskTier(
            folder, self.memory, identity=identity, max_bytes=max_files * FILE_BYTES + 1
        )

    def save(self, *numbers: int) -> None:
        for number in numbers:
            self.memory.slots[0] = number
            self.disk_tier.save(name_of(number), 0)

    def restore(self, number: int) -> bool:
        """Return whether block *number* came back, and check that it did so with its content."""
        self.memory.slots[1] = -1
        is_back = self.disk_tier.restore(name_of(number), 1)
        expected = number if is_back else -1
        assert (expected == self.memory.slots[1]).all()
        return is_back

    def close(self) -> None:
        self.disk_tier.close(TIMEOUT_S)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{name_of(number).hex()}.kv"


def test_what_was_saved_comes_back_to_the_next_process(tmp_path):
    """Also to the one that saved it, as soon as it is written."""
    disk = Disk(tmp_path)
    disk.save(1, 2)
    disk.close()
    assert disk.restore(1)
    assert Disk(tmp_path).restore(2)
    assert not Disk(tmp_path).restore(3)


def test_the_content_is_that_of_the_moment_of_saving(tmp_path):
    """The block may be handed out before it is written."""
    disk = Disk(tmp_path)
    disk.save(1)
    disk.memory.slots[0] = 99
    disk.close()
    assert disk.restore(1)


def test_nobody_else_can_read_it(tmp_path):
    """The folder has mode 0700 and its files 0600, whatever the umask and whoever made it."""
    folder = tmp_path / "prefixes" / "model"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    usual = os.umask(0)
    try:
        disk = Disk(folder)
        disk.save(1)
        disk.close()
    finally:
        os.umask(usual)
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert [0o600] == [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()]


def test_a_name_on_disk_tells_nothing_but_the_hash(tmp_path):
    """Neither tokens nor salts are in names."""
    disk = Disk(tmp_path)
    disk.save(1)
    disk.close()
    assert [path_of(tmp_path, 1)] == [*tmp_path.iterdir()]


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def oversized(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rotten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 3] ^= 1
    path.write_bytes(content)


def another_magic(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def of_another_block(path: Path) -> None:
    path.write_bytes(path_of(path.parent, 2).read_bytes())


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "spoil", [torn, oversized, empty, rotten, another_magic, of_another_block, a_link]
)
@pytest.mark.parametrize("is_running", [True, False])
def test_a_wrong_file_is_removed_and_never_served(
    spoil: Callable[[Path], None], is_running, tmp_path
):
    """Whether it is spoilt while a process runs or between two of them."""
    disk = Disk(tmp_path)
    disk.save(1, 2)
    disk.close()
    if is_running:
        spoil(path_of(tmp_path, 1))
    else:
        spoil(path_of(tmp_path, 1))
        disk = Disk(tmp_path)
    assert not disk.restore(1)
    assert not path_of(tmp_path, 1).is_symlink()
    assert not path_of(tmp_path, 1).exists()
    assert not disk.disk_tier.holds(name_of(1))
    assert disk.restore(2)


def test_a_file_of_another_model_is_not_served(tmp_path):
    """The checksum covers what the bytes mean, should a folder ever be taken for another."""
    disk = Disk(tmp_path, identity=b"one model")
    disk.save(1)
    disk.close()
    assert not Disk(tmp_path, identity=b"another").restore(1)


def test_what_was_begun_is_removed_and_what_is_not_ours_is_left(tmp_path):
    """A file that was being written when the process was killed is of no use to anybody."""
    (tmp_path / f"{name_of(1).hex()}.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    Disk(tmp_path)
    assert ["notes.txt"] == [path.name for path in tmp_path.iterdir()]


def test_a_file_that_is_gone_is_no_error(tmp_path):
    """Somebody may clean up while it runs."""
    disk = Disk(tmp_path)
    disk.save(1)
    disk.close()
    path_of(tmp_path, 1).unlink()
    assert not disk.restore(1)


def test_a_file_that_goes_while_a_process_starts_is_no_error(tmp_path, monkeypatch):
    """Another engine on the same folder may remove what has just been listed."""
    gone = path_of(tmp_path, 1)
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([gone, gone.with_suffix(".part")]))
    assert not Disk(tmp_path).disk_tier.holds(name_of(1))


def test_the_least_recently_used_goes_first_also_after_a_restart(tmp_path):
    """Being touched or read is being used."""
    disk = Disk(tmp_path, max_files=3)
    disk.save(1, 2, 3)
    disk.close()
    for seconds, number in enumerate((2, 3, 1)):
        os.utime(path_of(tmp_path, number), (1000 + seconds, 1000 + seconds))
    disk = Disk(tmp_path, max_files=3)
    disk.disk_tier.touch([name_of(2)])
    disk.save(4)
    disk.close()
    assert [True, True, False, True] == [disk.restore(number) for number in (1, 2, 3, 4)]


def test_a_smaller_bound_holds_from_the_start(tmp_path):
    """What no longer fits is removed before anything is served."""
    disk = Disk(tmp_path)
    disk.save(1, 2, 3)
    disk.close()
    Disk(tmp_path, max_files=2)
    assert 2 == len([*tmp_path.iterdir()])


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(
    max_files=st.integers(1, 4),
    lives=st.lists(
        st.lists(st.tuples(st.sampled_from(["save", "restore", "touch"]), st.integers(0, 7))),
        min_size=1,
        max_size=4,
    ),
)
def test_the_bound_holds_and_content_is_right_whatever_happens(max_files, lives):
    """Over any saves, reads and restarts: never more bytes than allowed, never a wrong one."""
    with TemporaryDirectory() as directory:
        for life in lives:
            disk = Disk(Path(directory), max_files)
            for action, number in life:
                if action == "save":
                    disk.save(number)
                elif action == "touch":
                    disk.disk_tier.touch([name_of(number)])
                else:
                    disk.restore(number)
                assert num_bytes_in(directory) <= max_files * FILE_BYTES
            disk.close()
            assert num_bytes_in(directory) <= max_files * FILE_BYTES


def num_bytes_in(directory: str) -> int:
    total = 0
    for path in Path(directory).iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # the writer was quicker
            continue
    return total


def test_less_than_one_block_is_refused(tmp_path):
    """The error names the setting, its value and what a block takes."""
    with pytest.raises(ConfigError, match=rf"prefix_disk_bytes is 1; one block takes {FILE_BYTES}"):
        DiskTier(tmp_path, BlockMemory(1), identity=b"", max_bytes=1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """The operator is told at the start, not when the first block is lost."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"prefix_disk_dir: .*file/model cannot be written"):
        Disk(tmp_path / "file" / "model")


def test_a_disk_that_fails_harms_nothing(tmp_path):
    """What cannot be written is not there later, and the next block is tried again."""
    folder = tmp_path / "model"
    disk = Disk(folder)
    folder.rmdir()
    disk.save(1)
    disk.close()
    assert not disk.restore(1)
    disk = Disk(folder)
    disk.save(1)
    disk.close()
    assert disk.restore(1)


def test_a_disk_that_becomes_full_leaves_no_half_of_a_file(tmp_path):
    """What does not fit as a whole is not kept, takes no place, and is logged."""
    disk = Disk(tmp_path)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs() as logs:  # which a file of that limit could not take
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES - 1, usual[1]))
        try:
            disk.save(1)
            disk.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert ["prefix_disk_write_failed"] == [log["event"] for log in logs]
    assert not disk.disk_tier.holds(name_of(1))
    assert [] == [*tmp_path.iterdir()]


class FullLog(io.StringIO):
    """A log on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_fails_with_the_disk_harms_nothing(tmp_path, monkeypatch):
    """What could not be written is dropped, and its memory with it."""
    folder = tmp_path / "model"
    disk = Disk(folder)
    folder.rmdir()
    monkeypatch.setattr("sys.stdout", FullLog())
    disk.save(1)
    disk.close()
    assert not disk.disk_tier._queue


def test_forgetting_takes_a_name_as_it_is(tmp_path):
    """A checkpoint's folder may have brackets in its name."""
    disk = Disk(tmp_path / "m[1]-int8-1")
    disk.save(1)
    disk.close()
    remove_disk_tiers(tmp_path, "m[1]-int8")
    assert [] == [*tmp_path.iterdir()]


def test_forgetting_removes_what_earlier_versions_left(tmp_path):
    """Folders of the same checkpoint go, but for the one in use; others' files stay."""
    kept, older, other = (tmp_path / name for name in ("m-int8-1", "m-int8-2", "n-int8-1"))
    for folder in (kept, older, other):
        disk = Disk(folder)
        disk.save(1)
        disk.close()
    remove_disk_tiers(tmp_path, "m-int8", but=kept)
    assert {kept, other} == {*tmp_path.iterdir()}
    (kept / "notes.txt").write_text("mine")
    remove_disk_tiers(tmp_path, "m-int8")
    assert ["notes.txt"] == [path.name for path in kept.iterdir()]
    assert not (tmp_path / "never made").exists()
    remove_disk_tiers(tmp_path / "never made", "m-int8")
