"""Runs a PostgreSQL server for the tests: a new cluster in a folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from stillhouse.store.database import Database

_names = count(1)

_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

#: The two built-in accounts stay, and the next id is 3 again.
_EMPTY = """
    SET LOCAL session_replication_role = replica;
    DO $$ BEGIN
        EXECUTE (
            SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') || ' RESTART IDENTITY'
            FROM pg_tables
            WHERE schemaname = 'public' AND tablename NOT IN ('account', 'alembic_version')
        );
    END $$;
    DELETE FROM account WHERE kind <> 'house';
    SELECT setval(pg_get_serial_sequence('account', 'id'), 2);
"""


class PostgreSQL:
    """A running PostgreSQL cluster."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self.folder = folder
        self._ledger: str | None = None

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs; root runs it as nobody, as PostgreSQL demands."""
        subprocess.run(
            [self._binaries / program, *arguments],
            user="nobody" if os.geteuid() == 0 else None,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PGUSER": "stillhouse"},
            cwd=self.folder,
            capture_output=True,
            check=True,
        )

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{next(_names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def empty_ledger(self) -> str:
        """
        Return the URL of a ledger without requests.

        The database is reused: creating one takes ten times as long as emptying it.
        """
        if self._ledger is None:
            self._ledger = self.create_database()
            Database.open(self._ledger).close()
        else:
            with psycopg.connect(self._ledger) as connection:
                connection.execute(_END_OTHERS)
                connection.execute(_EMPTY)
        return self._ledger

    @property
    def socket(self) -> Path:
        """Return the folder of the server's socket."""
        return self.folder / ".s.PGSQL.5432"

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://stillhouse@/{name}?host={self.folder}"


def find_binaries() -> Path | None:
    """Return the folder of the newest installed server; Debian keeps it off the PATH."""
    installed = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(installed, default=None, key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    found = newest or (Path(on_path) if on_path else None)
    return found.parent if found else None


@contextmanager
def run_postgresql() -> Iterator[PostgreSQL]:
    """Start a cluster, and remove it at the end; skip the test if no server is installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    # Not pytest's folder, whose parents the server's user cannot enter.
    with tempfile.TemporaryDirectory(prefix="stillhouse-pg-") as folder:
        Path(folder).chmod(0o777)
        with _running(PostgreSQL(binaries, Path(folder))) as server:
            yield server


@contextmanager
def _running(server: PostgreSQL) -> Iterator[PostgreSQL]:
    folder = server.folder
    data = str(folder / "data")
    server.run("initdb", "--auth=trust", "--username=stillhouse", "--no-sync", data)
    # No test cuts the power, so fsync is not needed.
    settings = (
        f"-c listen_addresses='' -c unix_socket_directories={folder} "
        "-c max_connections=200 -c fsync=off"
    )
    log = str(folder / "log")
    server.run("pg_ctl", "--pgdata", data, "--wait", "--log", log, "--options", settings, "start")
    try:
        yield server
    finally:
        server.run("pg_ctl", "--pgdata", data, "--mode=immediate", "stop")
