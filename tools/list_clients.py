"""Rewrites the last chapter of docs/clients.md: tries every client against a server."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.clients.client_runs import (  # noqa: E402  (found on the path set above)
    CLIENTS,
    TABLE_DOCUMENT,
    TABLE_HEADING,
    Run,
    run_client,
    table_of,
)
from tests.e2e.running_server import RunningServer, run_server  # noqa: E402  (found on the path set above)


def main() -> None:
    """Write the chapter."""
    with (
        tempfile.TemporaryDirectory() as folder,
        run_server(Path(folder) / "state") as server,
    ):
        table = table_of(_run(name, server) for name in CLIENTS)
    text = TABLE_DOCUMENT.read_text().partition(TABLE_HEADING)[0]
    TABLE_DOCUMENT.write_text(f"{text}{TABLE_HEADING}\n{table}")


def _run(name: str, server: RunningServer) -> Run:
    with tempfile.TemporaryDirectory() as home:
        return run_client(CLIENTS[name], url=server.url, key=server.key, home=Path(home))


if __name__ == "__main__":
    main()
