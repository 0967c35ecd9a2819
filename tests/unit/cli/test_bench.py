"""The command of the load generator, without running a load."""

from __future__ import annotations

import importlib.util

import pytest
from typer.testing import CliRunner

from stillhouse.cli.main import app
from stillhouse.errors import ConfigError, ServingError
from stillhouse_loadgen.benchmark import Benchmark
from stillhouse_loadgen.errors import TargetError

OPTIONS = ("bench", "http://127.0.0.1:9/v1", "--model=m", "--tokens-per-word=1")


def error_of(*options):
    """The error that the command ends with."""
    return CliRunner().invoke(app, [*OPTIONS, *options]).exception


@pytest.mark.parametrize("missing", ["aiohttp", "matplotlib"])
def test_without_the_extra(monkeypatch, missing):
    """The command names the missing library and the extra that installs it."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    error = error_of("--rate=1")

    assert isinstance(error, ConfigError)
    assert f"this command needs {missing}: pip install 'stillhouse[bench]'" == error.message


def test_a_wrong_option_is_a_configuration_error():
    """The load generator's own errors become stillhouse's."""
    error = error_of("--rate=0")

    assert isinstance(error, ConfigError)
    assert error.message.startswith("--rate: '0' is not a list of numbers above 0")


def test_a_server_that_cannot_be_measured(monkeypatch):
    """An error of the server under test is one of serving."""

    async def fail(self):
        raise TargetError("the server does not answer")

    monkeypatch.setattr(Benchmark, "run", fail)

    assert isinstance(error_of("--rate=1"), ServingError)
