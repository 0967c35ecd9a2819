"""The admin key: made once, private, and never an API key."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.admin_key import AdminKey
from stillhouse.errors import ConfigError


def test_admin_key_is_made_once_and_is_no_api_key(tmp_path: Path) -> None:
    """The file is for its owner's eyes and stays; what is in it could never be minted as a key."""
    path = tmp_path / "admin-key"
    admin_key = AdminKey.load_or_create(path)
    secret = path.read_text().strip()
    assert 0o600 == path.stat().st_mode & 0o777
    assert AdminKey.load_or_create(path).is_equal(secret)
    assert admin_key.is_equal(secret)
    assert secret.startswith("sh_admin_")
    assert not api_key.is_well_formed(secret)


@pytest.mark.parametrize(
    "wrong",
    [None, "", "sh_admin_", "é" * 42, api_key.mint()],
    ids=["none", "empty", "prefix", "not ASCII", "an API key"],
)
def test_nothing_else_is_the_admin_key(tmp_path: Path, wrong: str | None) -> None:
    """Whatever is sent, only the whole admin key is it."""
    admin_key = AdminKey.load_or_create(tmp_path / "admin-key")
    secret = (tmp_path / "admin-key").read_text().strip()
    assert [False] * 3 == [admin_key.is_equal(w) for w in (wrong, secret[:-1], f"{secret} ")]


@pytest.mark.parametrize("content", ["", "sh_admin_short", "an API key"])
def test_file_that_is_no_admin_key_is_a_configuration_error(tmp_path: Path, content: str) -> None:
    """A customer's key, or nothing, in the file does not become the operator's credential."""
    path = tmp_path / "admin-key"
    path.write_text(api_key.mint() if content == "an API key" else content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is not an admin key"):
        AdminKey.load_or_create(path)


def test_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A readable secret is no secret, and the message says how to make it one."""
    path = tmp_path / "admin-key"
    AdminKey.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        AdminKey.load_or_create(path)
