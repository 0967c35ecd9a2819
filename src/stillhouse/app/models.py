"""The models that a configuration names, each with its prompts and its engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from stillhouse.app.config import ENGINE_KEY, Config
from stillhouse.app.engines import Progress, make_engine
from stillhouse.billing.ledger import Ledger
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.engines.worker.engine import WorkerEngine
from stillhouse.errors import ConfigError
from stillhouse.serving.registry.config import PublicPrefixConfig
from stillhouse.serving.registry.public_prefixes import PublicPrefixes
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.serving.registry.served_model import ServedModel, ServedModels
from stillhouse.text.chat_model import ChatModel


def load_catalogue(config: Config, source: Path | None) -> Catalogue:
    """The built-in catalogue with what *config*, read from *source*, adds to it."""
    entries = {
        model_id: {key: value for key, value in table.items() if key != ENGINE_KEY}
        for model_id, table in config.models.items()
    }
    return Catalogue.load(
        entries, source=str(source or "configuration"), fallback_models=config.fallback_models
    )


@asynccontextmanager
async def running_models(
    config: Config,
    ledger: Ledger,
    *,
    home: Path,
    source: Path | None,
    on_progress: Progress | None,
) -> AsyncIterator[tuple[ServedModels, Mapping[str, WorkerEngine]]]:
    """
    Load the models that *config* names, publish their prices and run their engines.

    Args:
        source: The file that *config* came from: its relative paths start there.
        on_progress: Called as each model loads.

    Raises:
        OperatorError: A model or its engine cannot be loaded; the message says why.

    """
    catalogue = load_catalogue(config, source)
    specs = {spec.id: spec for spec in catalogue.specs if spec.id in config.models}
    base_dir = source and source.parent
    chats = {id_: load_chat_model(spec, base_dir=base_dir) for id_, spec in specs.items()}
    public_prefixes = _render_public_prefixes(config, source, chats)
    prices = await ledger.prices.publish({id_: spec.price for id_, spec in specs.items()})
    engines, replicas = {}, {}
    async with AsyncExitStack() as stack:
        for model_id, chat in chats.items():
            engine = make_engine(
                config.engine_of(model_id),
                chat,
                home=home,
                num_models=len(config.models),
                on_progress=on_progress,
            )
            engines[model_id] = await stack.enter_async_context(_running(engine))
            replicas[model_id] = ReplicaSet()
            replicas[model_id].add(engine)
        served = {
            model_id: ServedModel(
                specs[model_id],
                chat,
                replicas[model_id],
                prices[model_id],
                public_prefixes[model_id],
            )
            for model_id, chat in chats.items()
        }
        yield ServedModels(catalogue, served), engines


def _render_public_prefixes(
    config: Config, source: Path | None, chats: Mapping[str, ChatModel]
) -> dict[str, PublicPrefixes]:
    systems: dict[str, list[str]] = {model_id: [] for model_id in chats}
    for declared in config.public_prefixes:
        if declared.model not in systems:
            raise ConfigError(
                f"{source}: public_prefixes are declared for {declared.model!r}; the models served "
                f"here: {', '.join(systems)}"
            )
        systems[declared.model].append(_system_text(declared, source))
    return {
        model_id: PublicPrefixes.render(chat, systems[model_id]) for model_id, chat in chats.items()
    }


def _system_text(declared: PublicPrefixConfig, source: Path | None) -> str:
    if declared.system_file is None:
        assert declared.system is not None, "the configuration has one or the other"
        return declared.system
    path = declared.system_file if source is None else source.parent / declared.system_file
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a public prefix: {error}") from error


@asynccontextmanager
async def _running(engine: WorkerEngine) -> AsyncIterator[WorkerEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
