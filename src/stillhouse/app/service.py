"""Builds the whole service from its configuration (the composition root)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from stillhouse.accounts.first_key import FirstKey, ensure_first_key
from stillhouse.accounts.keys.admin_key import AdminKey
from stillhouse.api.account.account_routes import account_routes
from stillhouse.api.bodies.body_reader import BodyReader
from stillhouse.api.completion_routes import completion_routes
from stillhouse.api.http.drain import Drain
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.models.model_routes import model_routes
from stillhouse.api.probes import Probes, SharedCheck
from stillhouse.api.routes import create_api, probe_routes
from stillhouse.app.background_loops import (
    archive_loop,
    ledger_watch,
    purge_loop,
    revocation_loop,
    start_leases,
)
from stillhouse.app.config import Config
from stillhouse.app.engines import Progress
from stillhouse.app.models import ModelLoader, load_catalogue
from stillhouse.app.services import Services, open_services
from stillhouse.billing.idempotency import PastRequests
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.clock import Clock
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.serving.admission.quarantine import Quarantine
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.admission.thread_pool import FairThreadPool
from stillhouse.serving.completions import Completions
from stillhouse.serving.preparation import RequestPreparer
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.revocation import RevocationCheck
from stillhouse.serving.settlement import PendingSettlements
from stillhouse.telemetry.background import BackgroundLoops
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.grammar.compiler import GrammarCompiler

ADMIN_KEY_FILE = "admin-key"
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Service:
    """
    A running service.

    Args:
        api: The ASGI application.
        first_key: The key that the first start created; None if others replaced it.

    """

    api: ASGIApp
    services: Services
    models: ModelRegistry
    first_key: FirstKey | None
    drain: Drain
    completions: Completions
    metrics: Metrics


@asynccontextmanager
async def open_service(  # noqa: PLR0913  (one argument per choice)
    config: Config,
    *,
    home: Path,
    source: Path | None = None,
    clock: Clock | None = None,
    on_progress: Progress | None = None,
    is_strict: bool = False,
) -> AsyncIterator[Service]:
    """
    Starts the configured service; on exit, drains requests and stops engines.

    Args:
        source: The file of *config*; relative paths start at its folder.
        on_progress: Called as each model loads.
        is_strict: End if a model cannot be loaded; else the others are served without it.

    Raises:
        OperatorError: Something must be changed first; the message says what.

    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(_open_ledger(config, home, clock))
        background = await stack.enter_async_context(BackgroundLoops(services.clock))
        await start_leases(services, background)
        background.start(ledger_watch(services.database, metrics))
        if config.store.retention_months is not None:
            background.start(archive_loop(services, home, num_months=config.store.retention_months))
        first_key = await ensure_first_key(services.accounts, home)
        admin_key = AdminKey.load_or_create(home / ADMIN_KEY_FILE)
        catalogue = load_catalogue(config, source)
        models = ModelRegistry(catalogue, config.models, metrics)
        stack.push_async_callback(models.close)
        past_requests = PastRequests(services.database, services.clock)
        background.start(purge_loop("purge", past_requests.purge))
        background.start(purge_loop("purge of scopes", services.accounts.scopes.purge))
        grammars = GrammarCompiler(config.grammars, services.clock)
        stack.push_async_callback(grammars.close)
        completions = _completions(
            config,
            services,
            models=models,
            past_requests=past_requests,
            grammars=grammars,
            metrics=metrics,
        )
        stack.push_async_callback(completions.drain, grace_s=0)
        loader = ModelLoader(
            config,
            home=home,
            source=source,
            prices=await services.ledger.prices.publish(
                {spec.id: spec.price for spec in catalogue.specs if spec.id in config.models}
            ),
            on_progress=on_progress,
            on_compiled=completions.charge_compilation,
        )
        await models.load_all(loader, is_strict=is_strict)
        revocation = RevocationCheck(completions, services.accounts.keys.find_revoked)
        background.start(revocation_loop(revocation, config.server.revocation_check_s))
        bodies = BodyReader.under(
            config.bodies, max_body_mib=config.server.max_body_mib, clock=services.clock
        )
        stack.push_async_callback(bodies.close)
        drain = Drain()
        probes = Probes(models, metrics, _ledger_probe(services), drain, background)
        api = _api(
            config,
            services,
            completions=completions,
            bodies=bodies,
            probes=probes,
            admin_key=admin_key,
        )
        yield Service(api, services, models, first_key, drain, completions, metrics)


@asynccontextmanager
async def _open_ledger(config: Config, home: Path, clock: Clock | None) -> AsyncIterator[Services]:
    """Opens accounts and ledger for the one server that may run on them."""
    opening = open_services(
        home,
        url=config.store.url,
        clock=clock,
        is_server=True,
        accounts_config=config.accounts,
        shared_rate_limiter=SharedRateLimiter(**config.limits.model_dump()),
    )
    async with opening as services:
        yield services


def _completions(  # noqa: PLR0913  (what a completion needs)
    config: Config,
    services: Services,
    *,
    models: ModelRegistry,
    past_requests: PastRequests,
    grammars: GrammarCompiler,
    metrics: Metrics,
) -> Completions:
    admission = _make_admission(config, services.clock, metrics)
    return Completions(
        models=models,
        ledger=services.ledger,
        past_requests=past_requests,
        admission=admission,
        preparer=RequestPreparer(
            threads=FairThreadPool(config.bodies.tokenizer_threads, services.clock),
            grammars=grammars,
            admission=admission,
            metrics=metrics,
        ),
        quarantine=Quarantine(services.clock, quarantine_s=config.engine.supervision.quarantine_s),
        settlements=PendingSettlements(cost_timeout_s=config.server.ledger_patience_s),
        clock=services.clock,
        metrics=metrics,
        cancel_timeout_s=config.engine.supervision.cancel_timeout_s,
    )


def _api(  # noqa: PLR0913  (one argument per room that answers)
    config: Config,
    services: Services,
    *,
    completions: Completions,
    bodies: BodyReader,
    probes: Probes,
    admin_key: AdminKey,
) -> ASGIApp:
    model_list = ModelList(probes.models, created=services.clock.now_ms() // 1000)
    routes = [
        *completion_routes(
            completions,
            bodies,
            count_limits=RateLimiter(config.token_counts.rate_limits, services.clock),
            keep_alive_s=config.server.keep_alive_s,
        ),
        *model_routes(model_list, probes.metrics),
        *account_routes(
            accounts=services.accounts,
            statements=services.statements,
            clock=services.clock,
            rate_limit=config.limits.max_outstanding,
            tpm_rate_limit=config.limits.tokens_per_minute,
        ),
        *probe_routes(probes, has_public_metrics=config.server.host in _LOOPBACK_HOSTS),
    ]
    return create_api(
        routes,
        accounts=services.accounts,
        admin_key=admin_key,
        metrics=probes.metrics,
        drain=probes.drain,
    )


def _ledger_probe(services: Services) -> SharedCheck:
    async def probe() -> None:
        await services.database.probe(now_ms=services.clock.now_ms())

    return SharedCheck(probe, services.clock)


def _make_admission(config: Config, clock: Clock, metrics: Metrics) -> AdmissionController:
    limits = RateLimiter(config.limits, clock)
    return AdmissionController(config.queue, limits=limits, clock=clock, metrics=metrics)
