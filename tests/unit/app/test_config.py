from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.app.config import home_directory, load_config
from stillhouse.catalogue.demo_models import DEMO_FALLBACKS, DEMO_MODEL, DEMO_TOOLS_MODEL
from stillhouse.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stillhouse.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_demo_stands_in():
    """No configuration serves the demo models, the first of which also answers to the seed's id."""
    config = load_config(None)

    assert {DEMO_MODEL: {}, DEMO_TOOLS_MODEL: {}} == config.models
    assert DEMO_FALLBACKS == config.fallback_models
    assert ("127.0.0.1", 8000) == (config.server.host, config.server.port)


def test_any_file_turns_the_fallback_off(tmp_path):
    """Even an empty file is a configuration, and means no fallback models."""
    assert {} == load_config(written(tmp_path, "")).fallback_models


def test_models_are_tables_by_id(tmp_path):
    """Each model is a table named by its id."""
    text = '[models."a/b"]\ncheckpoint = "/m"\n[engine]\nweights = "int4"\n'
    config = load_config(written(tmp_path, text))

    assert {"a/b": {"checkpoint": "/m"}} == config.models
    assert "int4" == config.engine.weights


def test_ledger_is_a_file_unless_a_url_is_given(tmp_path):
    """Without a word about it the ledger stays in the home folder."""
    url = "postgresql://stillhouse@db.example/ledger"
    assert None is load_config(None).store.url
    assert url == load_config(written(tmp_path, f'[store]\nurl = "{url}"\n')).store.url


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1", ["server.prot", "host", "port"]),
        ("[sever]\n", ["'sever'", "server", "engine"]),
        ("[server]\nport = 99999", ["server.port", "99999", "65535"]),
        ('[store]\nurl = "mysql://x/y"', ["store.url", "mysql", "postgres"]),
        ('[engine]\nweights = "int2"', ["engine.weights", "int2", "int8"]),
        ("[engine.supervision]\nhang_timeout_s = 0", ["engine.supervision.hang_timeout_s"]),
        ("[engine.fake]\nslot = 1", ["engine.fake.slot", "slots", "witness_log"]),
        (
            '[engine.fake]\nfaults = [{ kind = "crash", at = 1 }]',
            ["engine.fake.faults.0.at", "at_token"],
        ),
        (
            "[[public_prefixes]]\nmodel = 'a/b'",
            ["public_prefixes.0", "either system or system_file"],
        ),
        (
            "[[public_prefixes]]\nmodel = 'a/b'\nsystem = 'x'\nsystem_file = 'y'",
            ["public_prefixes.0", "either system or system_file"],
        ),
        ("[server]\nshutdown_grace_s = inf", ["server.shutdown_grace_s", "finite"]),
        ("[bodies]\nprocesses = 1.5", ["bodies.processes = 1.5 is wrong"]),
        ("[queue]\nwait = 1", ["queue.wait", "flex_max_wait_s"]),
        ("= 1", ["is not TOML"]),
        (
            "[models.'a/b'.engine]\nwait = 1",
            ["unknown key 'models.\"a/b\".engine.wait'", "weights"],
        ),
        (
            "[models.'a/b'.engine]\nweights = 'int2'",
            ["models.\"a/b\".engine.weights = 'int2' is wrong", "int8"],
        ),
        ("[models.'a/b']\nengine = 'vllm'", ['models."a/b".engine', "'vllm' is wrong"]),
        (
            "[models.'a/b'.engine.supervision]\nquarantine_s = 1",
            ['models."a/b".engine.supervision.quarantine_s', "[engine.supervision]"],
        ),
    ],
)
def test_wrong_files_are_told_by_file_and_key(tmp_path, text, told):
    """A wrong key or value is an error that names file, key, value and what would be right."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)

    assert all(word in raised.value.message for word in [str(path), *told])


def test_a_model_has_its_own_engine_settings(tmp_path):
    """A model's engine table is laid over [engine], key by key; other models keep [engine]."""
    text = """
        [engine]
        weights = "int4"
        threads = 2
        [engine.supervision]
        hang_timeout_s = 7
        [models."a/b".engine]
        threads = 4
        [models."a/b".engine.supervision]
        ping_interval_s = 1
        [models."c/d"]
    """
    config = load_config(written(tmp_path, text))
    own, other = config.engine_of("a/b"), config.engine_of("c/d")

    assert ("int4", 4) == (own.weights, own.threads)
    assert (7, 1) == (own.supervision.hang_timeout_s, own.supervision.ping_interval_s)
    assert other == config.engine


def test_missing_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def test_home_follows_xdg(monkeypatch, tmp_path):
    """State lives where it was chosen to, else under the XDG data home."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert tmp_path / "stillhouse" == home_directory(None)
    assert tmp_path / "other" == home_directory(tmp_path / "other")
