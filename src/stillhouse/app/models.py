"""Loads the models that a configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from stillhouse.app.config import ENGINE_KEY, Config
from stillhouse.app.engines import Progress, make_engine
from stillhouse.billing.price import Price
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.errors import ConfigError
from stillhouse.serving.registry.config import PublicPrefixConfig
from stillhouse.serving.registry.public_prefixes import PublicPrefixes
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.types.service_tier import ServiceTier


def load_catalogue(config: Config, source: Path | None) -> Catalogue:
    """Returns the built-in catalogue with the entries of *config* laid over it."""
    entries = {
        model_id: {key: value for key, value in table.items() if key != ENGINE_KEY}
        for model_id, table in config.models.items()
    }
    return Catalogue.load(
        entries, source=str(source or "configuration"), fallback_models=config.fallback_models
    )


class ModelLoader:
    """
    Loads the models that a configuration names: text, public prefixes and engine.

    Args:
        source: The file that *config* came from: its relative paths start there.
        prices: Of every model, by id.
        on_progress: Called as each model loads.
        on_compiled: Called with the model's id, the cache salt and the seconds of each grammar
            that an engine has compiled.

    Raises:
        ConfigError: A public prefix is declared for a model that is not configured, or its file
            cannot be read.

    """

    def __init__(  # noqa: PLR0913  (all that a model is made of)
        self,
        config: Config,
        *,
        home: Path,
        source: Path | None,
        prices: Mapping[str, Mapping[ServiceTier, Price]],
        on_progress: Progress | None,
        on_compiled: Callable[[str, str, float], None],
    ) -> None:
        self._config = config
        self._home = home
        self._base_dir = source and source.parent
        self._prices = prices
        self._on_progress = on_progress
        self._on_compiled = on_compiled
        self._public_systems = _public_systems(config, source)

    async def __call__(self, spec: ModelSpec, replicas: ReplicaSet) -> ServedModel:
        """
        Loads a model, and starts its engine in *replicas*.

        Raises:
            OperatorError: Its files or its settings are wrong; the message says what is right.
            EngineUnavailableError: Its engine cannot be started.

        """
        chat = await asyncio.to_thread(load_chat_model, spec, base_dir=self._base_dir)
        public_prefixes = PublicPrefixes.render(chat, self._public_systems[spec.id])
        engine = make_engine(
            self._config.engine_of(spec.id),
            chat,
            home=self._home,
            num_models=len(self._config.models),
            on_progress=self._on_progress,
        )
        engine.on_compiled = partial(self._on_compiled, spec.id)
        await replicas.start(engine)
        return ServedModel(spec, chat, replicas, self._prices[spec.id], public_prefixes)


def _public_systems(config: Config, source: Path | None) -> dict[str, list[str]]:
    """Reads the system messages that are declared public, by model."""
    systems: dict[str, list[str]] = {model_id: [] for model_id in config.models}
    for declared in config.public_prefixes:
        if declared.model not in systems:
            raise ConfigError(
                f"{source}: public_prefixes are declared for {declared.model!r}; the models served "
                f"here: {', '.join(systems)}"
            )
        systems[declared.model].append(_system_text(declared, source))
    return systems


def _system_text(declared: PublicPrefixConfig, source: Path | None) -> str:
    if declared.system_file is None:
        assert declared.system is not None, "the configuration has one or the other"
        return declared.system
    path = declared.system_file if source is None else source.parent / declared.system_file
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a public prefix: {error}") from error
