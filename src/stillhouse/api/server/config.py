"""Section ``[server]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class ServerConfig(Section):
    """
    Address and bounds of the HTTP server.

    Args:
        max_connections: None derives it from the limit of open files.

    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body_mib: int = Field(default=8, ge=1, le=1024)
    max_head_kib: int = Field(default=32, ge=1, le=1024)
    max_header_lines: int = Field(default=128, ge=8, le=10_000)
    max_header_line_kib: int = Field(default=8, ge=1, le=1024)
    max_target_kib: int = Field(default=8, ge=1, le=1024)
    max_connections: int | None = Field(default=None, ge=1)
    head_timeout_s: float = Field(default=10, gt=0)
    idle_timeout_s: float = Field(default=75, gt=0)
    keep_alive_s: float = Field(default=15, gt=0)
    stall_timeout_s: float = Field(default=30, gt=0)
    drain_delay_s: float = Field(default=0, ge=0)
    shutdown_grace_s: float = Field(default=30, ge=0)
    ledger_patience_s: float = Field(default=30, gt=0)
    revocation_check_s: float = Field(default=1, gt=0)
