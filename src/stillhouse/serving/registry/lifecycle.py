"""The life of one model: its state, its replicas, and the leases of the requests that it serves."""

from __future__ import annotations

import asyncio
import re

import structlog

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.errors import ModelUnavailableError
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.registry.states import ModelState, check_transition
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

#: When a client may come back, by the state that refused it.
_RETRY_AFTER_S = {ModelState.LOADING: 5.0}
_LONGEST_RETRY_S = 60.0
#: The folders of an absolute path, up to its last part.
_FOLDERS = re.compile(r"""(?<![\w.])(?:/[^\s/:'"]+)+/(?=[^\s/])""")


def without_folders(reason: str) -> str:
    """Returns *reason* as clients and monitors see it: paths without the server's folders."""
    return _FOLDERS.sub("…/", reason)


class ModelLifecycle:
    """
    Holds the state of one model, and moves it along the legal transitions alone.

    Attributes:
        replicas: Stays the same through a reload, as does the model's queue before it.
        reason: Why the last load failed; empty in any state but FAILED.

    """

    def __init__(self, spec: ModelSpec, metrics: Metrics) -> None:
        self.spec = spec
        self.replicas = ReplicaSet()
        self.state = ModelState.STOPPED
        self.reason = ""
        self.model: ServedModel | None = None
        self._metrics = metrics
        self._num_leases = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._show_state()

    @property
    def num_leases(self) -> int:
        """How many requests hold the model."""
        return self._num_leases

    def move_to(self, state: ModelState, reason: str = "") -> None:
        """
        Changes the state.

        Raises:
            IllegalTransitionError: The present state does not lead there.

        """
        check_transition(self.spec.id, self.state, state)
        self.state, self.reason = state, reason
        self._show_state()
        write = log.error if state is ModelState.FAILED else log.info
        write("model_state", model=self.spec.id, state=state.value, reason=reason)

    def serving(self) -> ServedModel:
        """
        Returns the model.

        Raises:
            ModelUnavailableError: It does not serve; the message has its state and reason.

        """
        if self.model is None or self.state is not ModelState.SERVING:
            reason = f": {without_folders(self.reason)}" if self.reason else ""
            raise ModelUnavailableError(
                f"The model {self.spec.id} does not serve now, it is {self.state}{reason}",
                retry_after_s=_RETRY_AFTER_S.get(self.state, _LONGEST_RETRY_S),
            )
        return self.model

    def lease(self) -> Lease:
        """
        Holds the model for a request, so that it is not unloaded before the request has ended.

        Raises:
            ModelUnavailableError: It does not serve.

        """
        lease = Lease(self.serving(), self)
        self._num_leases += 1
        self._is_idle.clear()
        return lease

    def release_lease(self) -> None:
        """Counts a lease that has ended; called by `Lease.release` alone."""
        self._num_leases -= 1
        if not self._num_leases:
            self._is_idle.set()

    async def wait_until_idle(self) -> None:
        """Returns when no request holds the model."""
        await self._is_idle.wait()

    def _show_state(self) -> None:
        for state in ModelState:
            self._metrics.model_state.labels(self.spec.id, state).set(state is self.state)


class Lease:
    """A request's hold on a model; a model that is unloaded waits for its leases."""

    __slots__ = ("_life", "model")

    def __init__(self, model: ServedModel, life: ModelLifecycle) -> None:
        self.model = model
        self._life: ModelLifecycle | None = life

    def release(self) -> None:
        """Ends the lease; may be repeated."""
        if self._life is not None:
            self._life.release_lease()
            self._life = None
