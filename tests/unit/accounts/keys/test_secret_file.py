from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from stillhouse.accounts.keys.secret_file import create_secret_file, read_secret_file
from stillhouse.errors import ConfigError


def test_one_of_many_creators_wins(tmp_path: Path) -> None:
    """However many processes start at once, one secret is kept and all of them read that one."""
    path = tmp_path / "home" / "secret"

    def create(secret: str) -> tuple[bool, str | None]:
        return create_secret_file(path, secret), read_secret_file(path)

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(create, [f"secret {n}" for n in range(64)]))
    assert 1 == sum(is_made for is_made, _ in results)
    assert 1 == len({secret for _, secret in results})
    assert [path] == list(path.parent.iterdir())


def test_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The file's mode is 0600, and a file that others can read is refused."""
    path = tmp_path / "secret"
    create_secret_file(path, "s")
    assert 0o600 == path.stat().st_mode & 0o777
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        read_secret_file(path)


def test_missing_file_is_none(tmp_path: Path) -> None:
    """No file is no secret, which is not an error."""
    assert None is read_secret_file(tmp_path / "secret")


@pytest.mark.parametrize(
    "use", [partial(create_secret_file, secret="s"), read_secret_file], ids=["create", "read"]
)
def test_impossible_path_is_a_configuration_error(tmp_path: Path, use: object) -> None:
    """A path that cannot be written or read is named with the reason."""
    (tmp_path / "file").write_text("")
    assert callable(use)
    with pytest.raises(ConfigError, match=r"file/secret: cannot be"):
        use(tmp_path / "file" / "secret")
