"""The configuration: read once from a TOML file, frozen, and passed down section by section."""

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
_DEMO_MODELS: dict[str, dict[str, Any]] = {DEMO_MODEL: {}, DEMO_TOOLS_MODEL: {}}


class EngineConfig(OpenVinoConfig):
    """
    Section ``[engine]``: which engine serves the models, and how.

    Args:
        kind: The fake engine generates noise, for tests.

    """

    kind: Literal["openvino", "fake"] = "openvino"
    supervision: SupervisionConfig = SupervisionConfig()
    fake: FakeEngineConfig = FakeEngineConfig()


class Config(Section):
    """
    Everything that an operator can set.

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


def home_directory(chosen: Path | None) -> Path:
    """Return the home folder: *chosen*, else ``stillhouse`` under the XDG data home."""
    if chosen:
        return chosen.expanduser().absolute()
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "stillhouse"


def load_config(path: Path | None) -> Config:
    """
    Read the configuration from the file at *path*; without one, serve the demo models.

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
        return Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_message_of(path, error)) from error


def _message_of(path: Path, error: ValidationError) -> str:
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
