"""``stillhouse doctor``: checks this machine and the configuration."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer
from rich.console import Console

from stillhouse.app.config import Config, home_directory, load_config
from stillhouse.app.models import load_catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.cli.options import ConfigOption, HomeOption
from stillhouse.errors import StillhouseError

_GIB = 1 << 30
_MARKS = {"ok": "[green]ok[/green]  ", "note": "[yellow]note[/yellow]", "bad": "[red]bad[/red] "}


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds the result of one check: `mark` is ok, note (works, but slower) or bad."""

    mark: str
    text: str


def doctor(config: ConfigOption = None, home: HomeOption = None) -> None:
    """Check this machine and the configuration; exit 1 if something is wrong."""
    console = Console()
    findings = [*look_at_machine(), *_look_at_setup(config, home_directory(home))]
    for finding in findings:
        console.print(f"{_MARKS[finding.mark]} {finding.text}", highlight=False)
    if any(finding.mark == "bad" for finding in findings):
        raise typer.Exit(1)


def look_at_machine() -> Iterator[Finding]:
    """Check the processor, the memory and the Python of this machine."""
    yield Finding("ok", f"Python {platform.python_version()} on {platform.platform(terse=True)}")
    yield from processor_findings(read_cpu_flags(), os.cpu_count() or 1)
    if sys.platform == "linux":
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        # Weights in int8 take a byte per parameter; a quarter goes to keys and values.
        largest = free * 3 // 4 // 1_000_000_000
        yield Finding(
            "ok", f"{free / _GIB:.1f} GiB of memory free: models up to about {largest} B in int8"
        )


def read_cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags as Linux names them; empty if they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def processor_findings(flags: frozenset[str], num_cores: int) -> Iterator[Finding]:
    """Judge the instruction sets in *flags* for the embedded engine."""
    if not flags:
        yield Finding("note", f"{num_cores} cores; instruction sets unknown on this system")
    elif "avx2" not in flags:
        yield Finding("bad", "the processor has no AVX2, which the embedded engine needs")
    elif flags & {"amx_int8", "avx512_vnni", "avx_vnni"}:
        fast = ", ".join(sorted(flags & {"amx_int8", "avx512_vnni", "avx_vnni", "avx512_bf16"}))
        yield Finding("ok", f"{num_cores} cores with {fast}: int8 runs at full speed")
    else:
        yield Finding(
            "note",
            f"{num_cores} cores with AVX2 but no VNNI: int8 works, batches gain little from it",
        )


def _look_at_setup(config_path: Path | None, home: Path) -> Iterator[Finding]:
    try:
        config = load_config(config_path)
        catalogue = load_catalogue(config, config_path)
    except StillhouseError as error:
        yield Finding("bad", error.message)
        return
    yield _try(lambda: _check_home(home), f"state in {home}")
    yield _try(lambda: _check_port(config), f"port {config.server.port} on {config.server.host}")
    for spec in catalogue.specs:
        if spec.id in config.models:
            load = partial(load_chat_model, spec, base_dir=config_path and config_path.parent)
            yield _try(load, f"model {spec.id}")


def _try(check: Callable[[], object], what: str) -> Finding:
    try:
        check()
    except (StillhouseError, OSError) as error:
        return Finding("bad", f"{what}: {error}")
    return Finding("ok", what)


def _check_home(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    probe = home / ".doctor"
    probe.touch()
    probe.unlink()


def _check_port(config: Config) -> None:
    family = socket.AF_INET6 if ":" in config.server.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((config.server.host, config.server.port))
