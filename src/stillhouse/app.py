"""The composition root: the only file that knows every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from stillhouse.accounts.accounts import AccountRules, Accounts
from stillhouse.accounts.admin_key import AdminKey
from stillhouse.accounts.first_key import FirstKey, ensure_first_key
from stillhouse.accounts.home_ledger import (
    forget_ledger_id,
    load_ledger_id,
    remember_ledger_id,
)
from stillhouse.api.account.account_routes import account_routes
from stillhouse.api.bodies.bodies import Bodies
from stillhouse.api.doors import door_routes
from stillhouse.api.drain import Drain
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.probes import Probes, SharedCheck
from stillhouse.api.routes import create_api
from stillhouse.background import BackgroundLoops, Loop
from stillhouse.billing.archive import archive_path
from stillhouse.billing.idempotency import PastRequests
from stillhouse.billing.leases import INTERVAL_MS
from stillhouse.billing.ledger import Ledger
from stillhouse.billing.shared_limits import SharedLimits
from stillhouse.billing.statement import Month, Statements
from stillhouse.chat import ServiceTier
from stillhouse.clock import Clock, SystemClock
from stillhouse.config import MIB, Config, PublicPrefixConfig
from stillhouse.engines.child import ChildEngine, SupervisionTimes
from stillhouse.engines.fake.engine import fake_engine
from stillhouse.engines.fake.settings import FakeSettings, Fault, FaultKind
from stillhouse.engines.frames import Loading
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.settings import EngineSettings, Precision, WeightFormat
from stillhouse.errors import ConfigError, StoreUnavailableError
from stillhouse.limits import LimitRules, Limits
from stillhouse.metrics import Metrics
from stillhouse.models.catalogue import Catalogue
from stillhouse.models.chat_model import ChatModel
from stillhouse.models.grammar.compiler import GrammarCompiler
from stillhouse.models.grammar.process import CompileLimits
from stillhouse.serving.completions import Completions
from stillhouse.serving.host_threads import HostThreads
from stillhouse.serving.places import Places
from stillhouse.serving.public_prefixes import PublicPrefixes
from stillhouse.serving.quarantine import Quarantine
from stillhouse.serving.queue.turns import QueueRules
from stillhouse.serving.resolver import Resolver
from stillhouse.serving.revocation import RevocationCheck
from stillhouse.serving.served_model import ServedModel, ServedModels
from stillhouse.store.database import ConflictError, Database
from stillhouse.store.database_clock import DatabaseClock

log = structlog.get_logger()

DATABASE_FILE = "stillhouse.db"
ADMIN_KEY_FILE = "admin-key"
WEIGHTS_FOLDER = "weights"
PREFIXES_FOLDER = "prefixes"
_PURGE_INTERVAL_S = 600
_WATCH_INTERVAL_S = 2
_ARCHIVE_INTERVAL_S = 3600
#: Some hundred million requests.
_ARCHIVE_TIMEOUT_S = 86_400
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

Progress = Callable[[Loading], None]


@dataclass(frozen=True, slots=True)
class Rooms:
    """Keys and money, as both the server and the commands use them."""

    database: Database
    clock: DatabaseClock
    accounts: Accounts
    ledger: Ledger
    statements: Statements


@dataclass(frozen=True, slots=True)
class Service:
    """
    A running service.

    Args:
        api: The ASGI application.
        first_key: The key that was made on first start; None when others took its place.

    """

    api: ASGIApp
    rooms: Rooms
    models: ServedModels
    first_key: FirstKey | None
    drain: Drain
    completions: Completions
    metrics: Metrics


@asynccontextmanager
async def open_rooms(  # noqa: PLR0913 - one argument per choice
    home: Path,
    *,
    url: str | None = None,
    clock: Clock | None = None,
    is_server: bool = False,
    account_rules: AccountRules | None = None,
    must_exist: bool = False,
) -> AsyncIterator[Rooms]:
    """
    Open the state under *home*; commands may do so while a server runs on it.

    Args:
        url: Of the ledger's database; None for the file under *home*.
        account_rules: None takes the defaults.
        must_exist: Make no ledger where there is none.

    Raises:
        ConfigError: Another server already runs on it, or it is not the ledger that *home* was made
            with.
        StoreUnavailableError: The database cannot be opened.

    """
    expected_id = load_ledger_id(home)
    with Database.open(
        url or home / DATABASE_FILE,
        is_server=is_server,
        expected_id=expected_id,
        must_exist=must_exist,
    ) as database:
        if expected_id is None:
            remember_ledger_id(home, database.ledger_id)
        clock = DatabaseClock(database, clock or SystemClock())
        await clock.synchronise()
        accounts = await Accounts.open(database, clock, home, account_rules)
        ledger = Ledger(database, clock)
        try:
            yield Rooms(database, clock, accounts, ledger, Statements(database))
        finally:
            await ledger.close()
            await accounts.close()


def adopt_ledger(home: Path, *, url: str | None = None, is_new: bool = False) -> str:
    """
    Take the ledger that is there for the one that *home* was made with, and return its id.

    Args:
        is_new: Make an empty one where there is none.

    Raises:
        ConfigError: There is none; or *home* cannot be written.
        StoreUnavailableError: The database cannot be opened.

    """
    with Database.open(url or home / DATABASE_FILE, must_exist=not is_new) as database:
        forget_ledger_id(home)
        remember_ledger_id(home, database.ledger_id)
        return database.ledger_id


def account_rules_of(config: Config) -> AccountRules:
    """What *config* says of accounts, their keys and who guesses them."""
    return AccountRules(
        auth_failures_per_minute=config.server.auth_failures_per_minute,
        max_keys_per_account=config.limits.max_keys_per_account,
        keys_minted_per_minute=config.limits.keys_minted_per_minute,
    )


def load_catalogue(config: Config, source: Path | None) -> Catalogue:
    """The built-in catalogue with what *config*, read from *source*, adds to it."""
    return Catalogue.load(
        config.models, source=str(source or "configuration"), stand_ins=config.stand_ins
    )


@asynccontextmanager
async def open_service(
    config: Config,
    *,
    home: Path,
    source: Path | None = None,
    clock: Clock | None = None,
    on_progress: Progress | None = None,
) -> AsyncIterator[Service]:
    """
    Start everything that *config* asks for; leaving drains requests and stops engines.

    Args:
        source: The file that *config* came from: its relative paths start there.
        on_progress: Called as each model loads.

    Raises:
        OperatorError: Something must be changed first; the message says what.

    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        rooms = await stack.enter_async_context(
            open_rooms(
                home,
                url=config.store.url,
                clock=clock,
                is_server=True,
                account_rules=account_rules_of(config),
            )
        )
        clock = rooms.clock
        rooms.ledger.share_limits(SharedLimits(**config.limits.of_requests))
        background = await stack.enter_async_context(BackgroundLoops(clock))
        await _start_leases(rooms, background)
        background.start(_watch(rooms.database, metrics))
        if config.store.retention_months is not None:
            background.start(_archiving(rooms, home, num_months=config.store.retention_months))
        first_key = await ensure_first_key(rooms.accounts, home)
        admin_key = AdminKey.load_or_create(home / ADMIN_KEY_FILE)
        catalogue = load_catalogue(config, source)
        chats = _load_chats(catalogue, config, source)
        public_prefixes = _render_public_prefixes(config, source, chats)
        prices = await rooms.ledger.publish_tiers(
            {id_: chat.spec.price for id_, chat in chats.items()}
        )
        served = {}
        engines = {}
        for model_id, chat in chats.items():
            engine = _make_engine(config, home, chat, on_progress)
            engines[model_id] = await stack.enter_async_context(_running(engine))
            served[model_id] = ServedModel(
                chat, engine, prices[model_id], public_prefixes[model_id]
            )
        models = ServedModels(catalogue, served)
        past_requests = PastRequests(rooms.database, clock)
        background.start(
            Loop("purge", past_requests.purge, interval_s=_PURGE_INTERVAL_S, is_vital=False)
        )
        background.start(
            Loop(
                "purge of scopes",
                rooms.accounts.scopes.purge,
                interval_s=_PURGE_INTERVAL_S,
                is_vital=False,
            )
        )
        grammars = GrammarCompiler(_compile_limits(config), clock)
        stack.push_async_callback(grammars.close)
        completions = Completions(
            models=models,
            ledger=rooms.ledger,
            past_requests=past_requests,
            places=_make_places(config, clock, metrics),
            threads=HostThreads(config.bodies.tokenizer_threads, clock),
            grammars=grammars,
            quarantine=Quarantine(clock, quarantine_s=config.engine.supervision.quarantine_s),
            resolver=Resolver(patience_s=config.server.ledger_patience_s),
            clock=clock,
            metrics=metrics,
            cancel_timeout_s=config.engine.supervision.cancel_timeout_s,
        )
        stack.push_async_callback(completions.drain, grace_s=0)
        revocation = RevocationCheck(completions, rooms.accounts.find_revoked)
        background.start(
            Loop(
                "revocation",
                revocation.run,
                interval_s=config.server.revocation_check_s,
                timeout_s=10,
                is_vital=False,
            )
        )
        for model_id, engine in engines.items():
            engine.on_compiled = partial(completions.charge_compiled, model_id)
        bodies = Bodies.under(config, clock)
        stack.push_async_callback(bodies.close)
        drain = Drain()

        async def probe_ledger() -> None:
            await rooms.database.probe(now_ms=clock.now_ms())

        api = create_api(
            accounts=rooms.accounts,
            admin_key=admin_key,
            door_routes=door_routes(
                completions,
                bodies,
                count_limits=Limits(LimitRules(**config.token_counts.model_dump()), clock),
                keep_alive_s=config.server.keep_alive_s,
            ),
            account_routes=account_routes(
                accounts=rooms.accounts,
                statements=rooms.statements,
                clock=clock,
                rate_limit=config.limits.max_outstanding,
                tpm_rate_limit=config.limits.tokens_per_minute,
            ),
            model_list=ModelList(models, created=clock.now_ms() // 1000),
            probes=Probes(models, metrics, SharedCheck(probe_ledger, clock), drain, background),
            metrics=metrics,
            drain=drain,
            has_public_metrics=config.server.host in _LOOPBACK_HOSTS,
        )
        yield Service(api, rooms, models, first_key, drain, completions, metrics)


def _compile_limits(config: Config) -> CompileLimits:
    grammars = config.grammars
    return CompileLimits(
        timeout_s=grammars.timeout_s,
        memory_bytes=grammars.process_memory_mib * MIB,
        max_processes=grammars.processes,
        max_waiting=grammars.max_waiting,
        max_waiting_per_account=grammars.max_waiting_per_account,
        max_wait_s=grammars.max_wait_s,
        max_remembered=grammars.max_remembered,
        bad_for_s=grammars.bad_for_s,
    )


def _make_places(config: Config, clock: Clock, metrics: Metrics) -> Places:
    queue = config.queue
    rules = QueueRules(
        max_outstanding=config.max_outstanding,
        max_wait_s={
            ServiceTier.PRIORITY: queue.max_wait_s,
            ServiceTier.DEFAULT: queue.max_wait_s,
            ServiceTier.FLEX: queue.flex_max_wait_s,
        },
        prompt_window_tokens=queue.prompt_window_tokens,
    )
    limits = Limits(LimitRules(**config.limits.of_requests), clock)
    return Places(rules, limits=limits, clock=clock, metrics=metrics)


async def _start_leases(rooms: Rooms, background: BackgroundLoops) -> None:
    """Take over what a killed server left, and hold on to what this one holds."""

    async def keep() -> None:
        await rooms.clock.synchronise()
        await rooms.ledger.keep_leases()

    if not rooms.database.is_shared:  # others may work on what is held there
        await rooms.ledger.sweep()
    background.start(Loop("leases", keep, interval_s=INTERVAL_MS / 1000))


def _archiving(rooms: Rooms, home: Path, *, num_months: int) -> Loop:
    """Move the requests of months that are longer ago into files."""

    async def move() -> None:
        now_ms = rooms.clock.now_ms()
        before = Month.of(now_ms).later(-num_months)
        path = archive_path(home, before, now_ms)
        try:
            archived = await rooms.ledger.archive(before=before, path=path)
        except ConflictError as error:  # another gateway is at it
            log.info("archive_postponed", reason=error.message)
            return
        if archived.path is not None:
            log.info("requests_archived", number=archived.num_requests, file=str(archived.path))

    return Loop(
        "archive",
        move,
        interval_s=_ARCHIVE_INTERVAL_S,
        timeout_s=_ARCHIVE_TIMEOUT_S,
        is_vital=False,
    )


def _watch(database: Database, metrics: Metrics) -> Loop:
    """Look after the ledger's files also while nobody writes to them."""

    async def watch() -> None:
        try:
            await database.check()
        except StoreUnavailableError:  # told where it was found, and by every other probe
            metrics.ledger_lost.set(1)
        else:
            metrics.ledger_lost.set(0)

    return Loop("ledger files", watch, interval_s=_WATCH_INTERVAL_S)


def _load_chats(catalogue: Catalogue, config: Config, source: Path | None) -> dict[str, ChatModel]:
    return {
        spec.id: ChatModel.load(spec, base_dir=source and source.parent)
        for spec in catalogue.specs
        if spec.id in config.models
    }


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
async def _running(engine: ChildEngine) -> AsyncIterator[ChildEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def _make_engine(
    config: Config, home: Path, chat: ChatModel, on_progress: Progress | None
) -> ChildEngine:
    patience = config.engine.supervision.model_dump(exclude={"cancel_timeout_s", "quarantine_s"})
    times = SupervisionTimes(**patience)
    if config.engine.kind == "fake":
        return fake_engine(_fake_settings(config, home, chat), model=chat.spec.id, times=times)
    settings = EngineSettings(
        checkpoint_dir=chat.checkpoint_path,
        cache_dir=home / WEIGHTS_FOLDER,
        context_length=chat.context_length,
        weights=WeightFormat(config.engine.weights),
        precision=Precision(config.engine.precision),
        kv_cache_bytes=config.engine.kv_cache_mib and config.engine.kv_cache_mib * MIB,
        num_models=len(config.models),
        prefix_spill_bytes=config.engine.prefix_spill_mib * MIB,
        prefix_spill_dir=home / PREFIXES_FOLDER,
        max_sequences=config.engine.max_sequences,
        target_pause_s=config.engine.target_pause_ms / 1000,
        max_draft_tokens=config.engine.max_draft_tokens,
        num_threads=config.engine.threads,
    )
    return openvino_engine(settings, model=chat.spec.id, on_progress=on_progress, times=times)


def _fake_settings(config: Config, home: Path, chat: ChatModel) -> FakeSettings:
    fake = config.engine.fake
    return FakeSettings(
        checkpoint_dir=chat.checkpoint_path,
        context_length=chat.context_length,
        first_token_s=fake.first_token_s,
        token_interval_s=fake.token_interval_s,
        slots=fake.slots,
        faults=tuple(Fault(FaultKind(f.kind), f.at_token, f.seed) for f in fake.faults),
        witness_log=fake.witness_log and home / fake.witness_log,
    )
