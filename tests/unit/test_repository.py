"""The files at the root of the repository agree with each other and with the tree."""

from __future__ import annotations

import re
import tomllib
from configparser import RawConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from tools.audit_requirements import passes, read_report

import stillhouse
from stillhouse.app.config import load_config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Where CONTRIBUTING.md promises a newcomer the place.
QUESTIONS = 7


def test_the_package_alone_holds_the_version():
    """pyproject.toml reads the version from the package; the changelog's newest release is it."""
    released = re.findall(
        r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", _read("CHANGELOG.md"), re.MULTILINE
    )

    assert "version" in PROJECT["project"]["dynamic"]
    assert stillhouse.__version__ == released[0][0]
    assert sorted(released, key=lambda release: release[1], reverse=True) == released


def test_the_changelog_has_room_for_what_comes_next():
    """The first heading of the changelog is Unreleased."""
    assert re.findall(r"^## (.+)$", _read("CHANGELOG.md"), re.MULTILINE)[0] == "Unreleased"


def test_a_newcomer_finds_the_places():
    """CONTRIBUTING.md answers its seven questions with paths that exist, as all its others do."""
    text = _read("CONTRIBUTING.md")
    table = text.partition("| where … | path |")[2].partition("\n\n")[0]
    answers = re.findall(r"^\| [^|]+ \| `([^`]+)` \|$", table, re.MULTILINE)
    others = re.findall(r"`((?:src|tests|docs|requirements|deploy)/[^`]+)`", text)

    assert QUESTIONS == len(answers)
    assert [] == [path for path in answers + others if not (ROOT / path).exists()]


@pytest.mark.parametrize("target", ["run", "check", "test", "coverage", "docs", "audit", "hooks"])
def test_commands_of_the_makefile_are_documented(target):
    """CONTRIBUTING.md names each target that it should, and the Makefile has it."""
    assert f"`make {target}`" in _read("CONTRIBUTING.md")
    assert re.search(rf"^{target}:", _read("Makefile"), re.MULTILINE)


def test_locks_agree():
    """What serves is the same version in each of the environments that serve or test it."""
    run = _pins("run")

    for name in ("dev", "benchmark", "container"):
        pins = _pins(name)
        assert {package: pins.get(package) for package in run} == run, name


def test_the_makefile_locks_every_environment():
    """`make lock` rewrites each file in requirements/."""
    (sets,) = re.findall(r"for set in ([\w ]+);", _read("Makefile"))

    assert {path.stem for path in (ROOT / "requirements").glob("*.txt")} == set(sets.split())


@pytest.mark.parametrize(
    "path",
    [".pre-commit-config.yaml", "compose.yaml", *sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml")
    )],
)  # fmt: skip
def test_yaml_parses(path):
    """Every YAML file that another program reads is a mapping."""
    assert isinstance(yaml.safe_load(_read(path)), dict)


def test_compose_exposes_the_gateway_on_loopback_alone():
    """The database publishes no port, and no password stands in the file."""
    services = yaml.safe_load(_read("compose.yaml"))["services"]

    assert "ports" not in services["ledger"]
    assert [True] == [port.startswith("127.0.0.1:") for port in services["gateway"]["ports"]]
    assert services["ledger"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD:?"
    )
    assert services["gateway"]["environment"]["PGPASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "healthcheck" in services["ledger"]


def test_the_configuration_of_compose_is_read():
    """deploy/compose.toml is a configuration, whose ledger is the database of compose.yaml."""
    config = load_config(ROOT / "deploy" / "compose.toml")
    ledger = yaml.safe_load(_read("compose.yaml"))["services"]["ledger"]["environment"]

    assert (
        f"postgresql://{ledger['POSTGRES_USER']}@ledger/{ledger['POSTGRES_DB']}" == config.store.url
    )


def test_whoever_stops_the_server_waits_for_its_drain():
    """Systemd and compose give the server longer than its drain may take."""
    server = load_config(None).server
    drain_s = server.drain_delay_s + server.shutdown_grace_s
    gateway = yaml.safe_load(_read("compose.yaml"))["services"]["gateway"]

    assert int(_unit()["Service"]["TimeoutStopSec"]) > drain_s + 10
    assert int(gateway["stop_grace_period"].removesuffix("s")) > drain_s + 10


def test_the_unit_is_sandboxed():
    """The server of the systemd unit can write to its state alone, and gains no privilege."""
    service = _unit()["Service"]

    assert "strict" == service["ProtectSystem"]
    assert "yes" == service["NoNewPrivileges"]
    assert "stillhouse" == service["User"] == service["StateDirectory"]
    assert "mixed" == service["KillMode"]


def test_the_image_copies_what_is_there():
    """Each file that the Dockerfile copies exists, and .dockerignore lets it through."""
    dockerfile = _read("Dockerfile")
    copied = [
        path
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for path in line.split()[:-1]
    ]
    allowed = [line[1:] for line in _read(".dockerignore").splitlines() if line.startswith("!")]

    assert [] == [path for path in copied if not (ROOT / path).exists()]
    assert [] == [path for path in copied if not any(fnmatch(path, rule) for rule in allowed)]
    assert "USER stillhouse" in dockerfile
    assert "http://127.0.0.1:8000/readyz" in dockerfile


def test_an_audit_takes_each_pin_once():
    """A version that several files lock is asked for once; two versions are in two passes."""
    texts = ["a==1\n    # via b\nb[x]==2 ; python_version < '3.12'\n", "a==1\nb==3\n"]

    assert [["a==1", "b==2"], ["b==3"]] == passes(texts)


def test_an_audit_tells_what_was_not_audited():
    """A package that PyPI does not know is no package without vulnerabilities."""
    report = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": []},
            {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]},
            {"name": "c", "skip_reason": "Dependency not found on PyPI"},
        ]
    }

    assert (["b 2: PYSEC-1, fixed in 3"], ["c"]) == read_report(report)


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _pins(name: str) -> dict[str, str]:
    text = _read(f"requirements/{name}.txt")
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def _unit() -> RawConfigParser:
    unit = RawConfigParser(strict=False)
    unit.read_string(_read("deploy/stillhouse.service"))
    return unit
