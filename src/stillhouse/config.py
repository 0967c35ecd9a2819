"""One frozen configuration, read once from a TOML file and the environment, then passed down."""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stillhouse.errors import ConfigError

HOME_VARIABLE = "STILLHOUSE_HOME"
CONFIG_VARIABLE = "STILLHOUSE_CONFIG"
DEMO_MODEL = "stillhouse/demo-r1"
DEMO_TOOLS_MODEL = "stillhouse/demo-tools"
# The seed page's own model id: without a configuration, the demo model stands in for it.
STAND_INS = {"deepseek-ai/DeepSeek-R1-Distill-Llama-70B": DEMO_MODEL}

KIB = 1 << 10
MIB = 1 << 20


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ServerConfig(_Section):
    """
    Where and within which bounds HTTP is served.

    Args:
        max_connections: None derives it from how many files the process may open.

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
    auth_failures_per_minute: int = Field(default=60, ge=1, le=1_000_000)


class SupervisionConfig(_Section):
    """How patient the gateway is with an engine; `engines/worker/supervisor.py` says more."""

    ping_interval_s: float = Field(default=5, gt=0)
    hang_timeout_s: float = Field(default=60, gt=0)
    first_restart_delay_s: float = Field(default=0.1, ge=0)
    max_restart_delay_s: float = Field(default=10, ge=0)
    stable_after_s: float = Field(default=60, ge=0)
    cancel_timeout_s: float = Field(default=30, gt=0)
    quarantine_s: float = Field(default=600, ge=0)


class FaultConfig(_Section):
    """A fault of the fake engine; `testing/fake_engine/settings.py` says more."""

    kind: Literal[
        "crash", "hang", "refuse", "ignore_cancel", "negative_usage", "huge_usage", "no_usage"
    ]
    at_token: int = Field(default=0, ge=0)
    seed: int | None = None


class FakeEngineConfig(_Section):
    """
    How the fake engine, which is for tests of faults and load, behaves.

    Args:
        witness_log: A relative path starts in the home folder.

    """

    first_token_s: float = Field(default=0, ge=0)
    token_interval_s: float = Field(default=0, ge=0)
    slots: int = Field(default=64, ge=1)
    witness_log: Path | None = None
    faults: tuple[FaultConfig, ...] = ()


class EngineConfig(_Section):
    """
    How the embedded engine holds a model.

    Args:
        kind: The fake engine's answers are noise; only tests ask for it.
        kv_cache_mib: Memory for keys and values; None lets the engine choose from what is free.
        prefix_spill_mib: So much of prefixes that many prompts share is kept on disk per model;
            0 keeps none.
        threads: None takes every core.
        target_pause_ms: So long may an answer wait for its next token while prompts are computed
            beside it.
        max_draft_tokens: So many tokens are guessed ahead where an answer repeats what stands
            before it, and verified in one step, which draws as it does without. 0 guesses none.

    """

    kind: Literal["openvino", "fake"] = "openvino"
    weights: Literal["f16", "int8", "int4"] = "int8"
    kv_cache_mib: int | None = Field(default=None, ge=1)
    prefix_spill_mib: int = Field(default=0, ge=0)
    max_sequences: int = Field(default=64, ge=1, le=1024)
    target_pause_ms: int = Field(default=200, ge=1, le=60_000)
    max_draft_tokens: int = Field(default=8, ge=0, le=16)
    threads: int | None = Field(default=None, ge=1)
    precision: Literal["default", "f32"] = "default"
    supervision: SupervisionConfig = SupervisionConfig()
    fake: FakeEngineConfig = FakeEngineConfig()


class StoreConfig(_Section):
    """
    Where the ledger is.

    Args:
        url: Of a PostgreSQL database, which several gateways may share; None keeps the ledger in a
            file in the home folder.
        retention_months: So many whole months before this one keep their requests; older ones are
            moved into files in the home folder. None moves nothing.

    """

    url: str | None = Field(default=None, pattern="^postgres(ql)?://")
    retention_months: int | None = Field(default=None, ge=1, le=1200)


class LimitsConfig(_Section):
    """
    What one account may ask of one model, and how many API keys it may have.

    `limits.py` says how rates are counted.

    Args:
        keys_minted_per_minute: Over the API; the operator's commands are not bound by it.

    """

    max_outstanding: int = Field(default=200, ge=1)
    max_outstanding_per_key: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    max_keys_per_account: int = Field(default=1000, ge=1)
    keys_minted_per_minute: int = Field(default=60, ge=1)

    @property
    def of_requests(self) -> dict[str, Any]:
        """Those that bound requests, by the names of `limits.LimitRules`."""
        return self.model_dump(exclude={"max_keys_per_account", "keys_minted_per_minute"})


class BodiesConfig(_Section):
    """How much of large request bodies one account may bring; `api/bodies/` says how."""

    max_mib_in_flight: int = Field(default=128, ge=1)
    max_mib_in_flight_per_account: int = Field(default=32, ge=1)
    mib_per_minute: int = Field(default=512, ge=1)
    burst_mib: int = Field(default=16, ge=1)
    max_waiting: int = Field(default=200, ge=0)
    max_wait_s: float = Field(default=30, gt=0)
    processes: int = Field(default=2, ge=1, le=64)
    process_memory_mib: int = Field(default=512, ge=64)
    timeout_s: float = Field(default=30, gt=0)
    tokenizer_threads: int = Field(default=2, ge=1, le=64)


class GrammarsConfig(_Section):
    """How schemas and regular expressions are tried; `text/grammar/` says how."""

    processes: int = Field(default=2, ge=1, le=64)
    process_memory_mib: int = Field(default=512, ge=64)
    timeout_s: float = Field(default=2, gt=0)
    max_waiting: int = Field(default=256, ge=0)
    max_waiting_per_account: int = Field(default=32, ge=0)
    max_wait_s: float = Field(default=30, gt=0)
    max_remembered: int = Field(default=10_000, ge=1)
    bad_for_s: float = Field(default=600, ge=0)


class TokenCountsConfig(_Section):
    """How often one account may ask how many tokens a prompt has."""

    max_outstanding: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=1200, ge=1)


class QueueConfig(_Section):
    """
    How long requests wait for their turn at a model's engine; `serving/queue/` says which goes.

    Args:
        prompt_window_tokens: Of prompts that an engine is given before it has computed them.

    """

    max_wait_s: float = Field(default=60, ge=0)
    flex_max_wait_s: float = Field(default=600, ge=0)
    prompt_window_tokens: int = Field(default=4096, ge=1)


class PublicPrefixConfig(_Section):
    """
    A system message that is no secret: what a model computes for it, all accounts share.

    Args:
        system: Its text.
        system_file: Or a file that holds it; a relative path starts at the configuration's folder.

    """

    model: str
    system: str | None = Field(default=None, min_length=1)
    system_file: Path | None = None

    @model_validator(mode="after")
    def _has_one_text(self) -> Self:
        if (self.system is None) == (self.system_file is None):
            raise ValueError("it needs either system or system_file")
        return self


class Config(_Section):
    """
    Everything an operator can set.

    Args:
        models: What to serve: a table per model id, with what differs from the built-in catalogue
            (a `checkpoint` at least), or a whole entry of one's own; `models/` reads them.
        stand_ins: Further ids, each answered by the model that it names.
        public_prefixes: What prompts may begin with without being their account's secret.
        max_outstanding: Requests per model, waiting and running, of all accounts, before 429; the
            last eighth is for accounts that have few; in an account's part, for keys that have.

    """

    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    store: StoreConfig = StoreConfig()
    limits: LimitsConfig = LimitsConfig()
    bodies: BodiesConfig = BodiesConfig()
    grammars: GrammarsConfig = GrammarsConfig()
    token_counts: TokenCountsConfig = TokenCountsConfig()
    queue: QueueConfig = QueueConfig()
    models: dict[str, dict[str, Any]] = {DEMO_MODEL: {}, DEMO_TOOLS_MODEL: {}}
    stand_ins: dict[str, str] = {}
    public_prefixes: tuple[PublicPrefixConfig, ...] = Field(default=(), max_length=64)
    max_outstanding: int = Field(default=288, ge=1)


def home_directory(chosen: Path | None) -> Path:
    """Where all state lives: what was *chosen*, else ``stillhouse`` under the XDG data home."""
    if chosen:
        return chosen.expanduser().absolute()
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "stillhouse"


def load_config(path: Path | None) -> Config:
    """
    The configuration in the file at *path*; without one, the demo models with a stand-in.

    Raises:
        ConfigError: The file cannot be read, or a key or value in it is wrong.

    """
    if path is None:
        return Config(stand_ins=STAND_INS)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_describe(path, error)) from error


def _describe(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(first["loc"]))
        return f"{path}: unknown key {key!r}; known here: {known}"
    wrong = first["input"]
    written = str(wrong) if isinstance(wrong, Decimal) else repr(wrong)
    return f"{path}: {key} = {written} is wrong: {first['msg']}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):  # a place in a list, whose tables are all of one section
            continue
        annotation = section.model_fields[part].annotation
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return sorted(section.model_fields)
