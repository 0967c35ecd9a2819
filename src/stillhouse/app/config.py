"""Reads the configuration once from a TOML file, frozen and passed down by section."""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from stillhouse.accounts.config import AccountsConfig
from stillhouse.api.bodies.config import BodiesConfig
from stillhouse.api.server.config import ServerConfig
from stillhouse.catalogue.demo_models import DEMO_FALLBACKS, DEMO_MODEL, DEMO_TOOLS_MODEL
from stillhouse.engines.openvino.config import OpenVinoConfig
from stillhouse.engines.worker.config import SupervisionConfig
from stillhouse.errors import ConfigError
from stillhouse.serving.admission.config import RateLimitsConfig, TokenCountsConfig
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.registry.config import PublicPrefixConfig
from stillhouse.settings import Section
from stillhouse.store.config import StoreConfig
from stillhouse.testing.fake_engine.config import FakeEngineConfig
from stillhouse.text.grammar.config import GrammarsConfig

HOME_VARIABLE = "STILLHOUSE_HOME"
CONFIG_VARIABLE = "STILLHOUSE_CONFIG"
#: The table of a model that holds its engine settings.
ENGINE_KEY = "engine"
#: Settings that exist once per gateway.
_COMMON_TIMEOUTS = frozenset({"cancel_timeout_s", "quarantine_s"})
_DEMO_MODELS: dict[str, dict[str, Any]] = {DEMO_MODEL: {}, DEMO_TOOLS_MODEL: {}}


class EngineConfig(OpenVinoConfig):
    """
    Section ``[engine]``: the engine that serves the models, and its settings.

    Args:
        kind: The fake engine generates noise, for tests.

    """

    kind: Literal["openvino", "fake"] = "openvino"
    supervision: SupervisionConfig = SupervisionConfig()
    fake: FakeEngineConfig = FakeEngineConfig()


class Config(Section):
    """
    Holds all settings of an operator.

    Args:
        models: The models to serve: a table per model id, with what differs from the built-in
            catalogue (a `checkpoint` at least), or a whole entry; `catalogue/` reads them.
        fallback_models: Further model ids, each served by the model that it names.
        public_prefixes: System messages whose cached tokens all accounts share.

    """

    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    store: StoreConfig = StoreConfig()
    accounts: AccountsConfig = AccountsConfig()
    limits: RateLimitsConfig = RateLimitsConfig()
    bodies: BodiesConfig = BodiesConfig()
    grammars: GrammarsConfig = GrammarsConfig()
    token_counts: TokenCountsConfig = TokenCountsConfig()
    queue: QueueConfig = QueueConfig()
    models: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(_DEMO_MODELS))
    fallback_models: dict[str, str] = Field(default_factory=dict)
    public_prefixes: tuple[PublicPrefixConfig, ...] = Field(default=(), max_length=64)

    def engine_of(self, model_id: str) -> EngineConfig:
        """
        Returns ``[engine]`` with the settings of the model's own ``engine`` table laid over it.

        Raises:
            ValidationError: A key or value of the model's table is wrong.

        """
        own = self.models[model_id].get(ENGINE_KEY)
        if own is None:
            return self.engine
        if not isinstance(own, dict):
            return EngineConfig.model_validate(own)
        return EngineConfig.model_validate(_laid_over(self.engine.model_dump(), own))


def _laid_over(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merges two tables key by key; lists are replaced whole."""
    merged = defaults | own
    for key, value in own.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            merged[key] = _laid_over(default, value)
    return merged


def home_directory(chosen: Path | None) -> Path:
    """Returns the home folder: *chosen*, else ``stillhouse`` under the XDG data home."""
    if chosen:
        return chosen.expanduser().absolute()
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "stillhouse"


def load_config(path: Path | None) -> Config:
    """
    Reads the configuration from the file at *path*; without one, serves the demo models.

    Raises:
        ConfigError: The file cannot be read, or a key or value in it is wrong.

    """
    if path is None:
        return Config(fallback_models=DEMO_FALLBACKS)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    try:
        config = Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_message_of(path, error, Config)) from error
    _check_engines(path, config)
    return config


def _check_engines(path: Path, config: Config) -> None:
    for model_id, table in config.models.items():
        prefix = f'models."{model_id}".{ENGINE_KEY}'
        try:
            config.engine_of(model_id)
        except ValidationError as error:
            raise ConfigError(_message_of(path, error, EngineConfig, prefix)) from error
        for key in _COMMON_TIMEOUTS & table.get(ENGINE_KEY, {}).get("supervision", {}).keys():
            raise ConfigError(
                f"{path}: {prefix}.supervision.{key} holds for all models; right would be "
                f"[engine.supervision] {key}"
            )


def _message_of(
    path: Path, error: ValidationError, section: type[BaseModel], prefix: str = ""
) -> str:
    first = error.errors()[0]
    key = ".".join([*([prefix] if prefix else []), *map(str, first["loc"])])
    if first["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(section, first["loc"]))
        return f"{path}: unknown key {key!r}; known here: {known}"
    wrong = first["input"]
    written = str(wrong) if isinstance(wrong, Decimal) else repr(wrong)
    return f"{path}: {key} = {written} is wrong: {first['msg']}"


def _keys_beside(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, int):  # an index of a list, whose tables are all of one section
            continue
        annotation = section.model_fields[part].annotation
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return sorted(section.model_fields)
