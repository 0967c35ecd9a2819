"""Commands and gateways that find the ledger through their configuration."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillhouse.app.services import open_services
from stillhouse.cli.main import app
from stillhouse.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path, url: str) -> Path:
    path = tmp_path / "stillhouse.toml"
    path.write_text(f'[store]\nurl = "{url}"\n')
    return path


def run(home: Path, config: Path, *arguments: str) -> str:
    env = {"STILLHOUSE_HOME": str(home), "STILLHOUSE_CONFIG": str(config)}
    result = CliRunner().invoke(app, arguments, env=env)
    if isinstance(result.exception, ConfigError):
        raise result.exception
    assert 0 == result.exit_code, result.output
    return result.stdout


def test_commands_use_the_configured_ledger(tmp_path: Path, config: Path, url: str) -> None:
    """A key made by a command stands in the database, and no file is made for a ledger."""
    home = tmp_path / "home"
    secret = run(home, config, "keys", "create", "laptop").strip()

    async def who() -> str:
        async with open_services(home, url=url) as services:
            return (await services.accounts.authenticate(secret)).key_name

    assert "laptop" == asyncio.run(who())
    assert ["ledger-id", "pepper"] == sorted(path.name for path in home.iterdir())


async def test_gateways_know_each_others_keys(tmp_path: Path, url: str) -> None:
    """A key of one gateway works on another that has its pepper, as the same principal."""
    homes = [tmp_path / "first", tmp_path / "second"]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_services(homes[0], url=url, is_server=True))
        homes[1].mkdir()
        shutil.copy(homes[0] / "pepper", homes[1])
        second = await stack.enter_async_context(open_services(homes[1], url=url, is_server=True))
        account = await first.accounts.create_account("alice")
        minted = await first.accounts.keys.mint(account.id, "laptop")
        principal = await second.accounts.authenticate(minted.secret)
        assert principal == await first.accounts.authenticate(minted.secret)


def test_gateway_without_the_pepper_is_refused(tmp_path: Path, config: Path) -> None:
    """A second home on the same database is refused until it has the first one's pepper."""
    run(tmp_path / "first", config, "keys", "create", "laptop")
    with pytest.raises(ConfigError, match=r"second/pepper: is missing.* copy it from another"):
        run(tmp_path / "second", config, "keys", "list")
