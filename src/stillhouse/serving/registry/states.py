"""The states of a model's life, and the transitions between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from stillhouse.errors import IllegalTransitionError


class ModelState(StrEnum):
    """Where a model is in its life; the values are those of metrics and of the API."""

    STOPPED = "stopped"
    LOADING = "loading"
    SERVING = "serving"
    #: New requests are refused; admitted ones end.
    DRAINING = "draining"
    #: The last load failed; the model has a reason.
    FAILED = "failed"


#: The legal transitions, all of them. LOADING → STOPPED: the load was cancelled.
TRANSITIONS: Mapping[ModelState, frozenset[ModelState]] = {
    ModelState.STOPPED: frozenset({ModelState.LOADING}),
    ModelState.LOADING: frozenset({ModelState.SERVING, ModelState.FAILED, ModelState.STOPPED}),
    ModelState.SERVING: frozenset({ModelState.DRAINING}),
    ModelState.DRAINING: frozenset({ModelState.STOPPED}),
    ModelState.FAILED: frozenset({ModelState.LOADING, ModelState.STOPPED}),
}


def check_transition(model_id: str, before: ModelState, after: ModelState) -> None:
    """
    Refuses a transition that is not in `TRANSITIONS`.

    Raises:
        IllegalTransitionError: Names the model, both states and what would be right.

    """
    if after not in TRANSITIONS[before]:
        right = ", ".join(sorted(TRANSITIONS[before]))
        raise IllegalTransitionError(
            f"{model_id} is {before} and cannot become {after}; right would be {right}"
        )
