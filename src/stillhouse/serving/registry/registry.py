"""The models of this server: one state machine that loads, serves, drains and unloads them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog

from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.errors import ModelLoadError, StillhouseError
from stillhouse.serving.registry.lifecycle import Lease, ModelLifecycle, without_folders
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.registry.states import ModelState
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

#: Reads a model's files, and starts its engines in the replica set.
LoadModel = Callable[[ModelSpec, ReplicaSet], Awaitable[ServedModel]]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """
    The state of one model, as operators and clients see it.

    Args:
        reason: Why it failed, as operators see it; empty in any other state.

    """

    model_id: str
    state: ModelState
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.public_reason}" if self.reason else self.state

    @property
    def public_reason(self) -> str:
        """The reason as clients and monitors see it, who need no key for it."""
        return without_folders(self.reason)


class ModelRegistry:
    """
    Owns the life of every configured model, from its load to its unload.

    Iterating yields the models that serve. One event loop calls all of it.

    Args:
        catalogue: Finds a model by its id, an alias or a version.
        model_ids: The configured models; each is stopped at first.

    """

    def __init__(self, catalogue: Catalogue, model_ids: Iterable[str], metrics: Metrics) -> None:
        self._catalogue = catalogue
        configured = frozenset(model_ids)
        self._lives = {
            spec.id: ModelLifecycle(spec, metrics)
            for spec in catalogue.specs
            if spec.id in configured
        }

    def __iter__(self) -> Iterator[ServedModel]:
        for life in self._lives.values():
            if life.state is ModelState.SERVING and life.model is not None:
                yield life.model

    @property
    def statuses(self) -> list[ModelStatus]:
        """The state of every configured model, by id."""
        return [ModelStatus(id_, life.state, life.reason) for id_, life in self._lives.items()]

    def resolve_model(self, name: str) -> ServedModel:
        """
        Returns the model that answers to *name*.

        Raises:
            ModelNotFoundError: No configured model answers to it; the message says which do.
            ModelUnavailableError: It is loading, draining or failed.

        """
        return self._find(name).serving()

    def lease(self, name: str) -> Lease:
        """
        Holds the model that answers to *name* until the lease is released.

        Raises:
            ModelNotFoundError: No configured model answers to it; the message says which do.
            ModelUnavailableError: It is loading, draining or failed.

        """
        return self._find(name).lease()

    async def load_all(self, load: LoadModel, *, is_strict: bool = False) -> None:
        """
        Loads every configured model, one after the other; one that fails leaves the others.

        Args:
            is_strict: Stop at the first one that fails.

        Raises:
            ModelLoadError: None could be loaded, or, if strict, one could not.

        """
        for model_id, life in self._lives.items():
            await self.load(model_id, load)
            if is_strict and life.state is ModelState.FAILED:
                raise ModelLoadError(f"{model_id}: {life.reason}")
        reasons = [f"{s.model_id}: {s.reason}" for s in self.statuses if s.reason]
        if reasons and not any(True for _ in self):
            raise ModelLoadError("\n".join(reasons))

    async def load(self, model_id: str, load: LoadModel) -> None:
        """
        Loads a model; it serves on return, or has failed with a reason.

        Raises:
            IllegalTransitionError: It is neither stopped nor failed.

        """
        life = self._lives[model_id]
        life.move_to(ModelState.LOADING)
        try:
            life.model = await load(life.spec, life.replicas)
        except StillhouseError as error:
            await _abandon(life, ModelState.FAILED, error.message)
        except Exception as error:
            log.exception("model_load_failed", model=model_id)
            # Its text may hold anything, and monitors need no key.
            await _abandon(life, ModelState.FAILED, f"{type(error).__name__}; the log says more")
        except BaseException:
            await _abandon(life, ModelState.STOPPED)
            raise
        else:
            life.move_to(ModelState.SERVING)

    async def unload(self, model_id: str, *, grace_s: float) -> None:
        """
        Drains a model and stops its engines: new requests are refused, admitted ones end first.

        Args:
            grace_s: Requests that have not ended by then lose their engine.

        Raises:
            IllegalTransitionError: It does not serve, and has not failed.

        """
        life = self._lives[model_id]
        if life.state is ModelState.FAILED:
            life.move_to(ModelState.STOPPED)
            return
        life.move_to(ModelState.DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await life.wait_until_idle()
        await _abandon(life, ModelState.STOPPED)

    async def close(self) -> None:
        """Stops every engine; requests that still run fail."""
        for life in self._lives.values():
            if life.state is ModelState.SERVING:
                life.move_to(ModelState.DRAINING)
            if life.state is ModelState.DRAINING:
                await _abandon(life, ModelState.STOPPED)

    def _find(self, name: str) -> ModelLifecycle:
        known = [id_ for id_, life in self._lives.items() if life.state is not ModelState.STOPPED]
        return self._lives[self._catalogue.resolve(name, loaded=known).id]


async def _abandon(life: ModelLifecycle, state: ModelState, reason: str = "") -> None:
    """Stops the engines of a model that serves no more, whatever stopping them says."""
    life.model = None
    try:
        await life.replicas.stop()
    finally:
        life.move_to(state, reason)
