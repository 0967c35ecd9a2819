"""Section ``[engine.supervision]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class SupervisionConfig(Section):
    """
    Timeouts of the gateway for an engine's worker process.

    Args:
        health_timeout_s: Longest answer of the engine loop to a health check.
        ping_interval_s: Time between two pings of the supervisor.
        hang_timeout_s: A loop that is silent for so long is killed; one step of a long prompt may
            take seconds.
        load_silence_timeout_s: The same while it loads; compiling a large model is silent work.
        stop_timeout_s: Time of a worker to stop.
        first_restart_delay_s: Delay of the first restart; each further one doubles it.
        max_restart_delay_s: Longest delay of a restart.
        stable_after_s: A worker that has served for so long restarts with the first delay again.
        cancel_timeout_s: An engine that still generates so long after a cancel is abandoned, and
            the request settled.
        quarantine_s: Time for which a request is refused that was part of two crashes, and the
            only suspect of the second; 0 never refuses one.

    """

    health_timeout_s: float = Field(default=10, gt=0)
    ping_interval_s: float = Field(default=5, gt=0)
    hang_timeout_s: float = Field(default=60, gt=0)
    load_silence_timeout_s: float = Field(default=600, gt=0)
    stop_timeout_s: float = Field(default=5, gt=0)
    first_restart_delay_s: float = Field(default=0.1, ge=0)
    max_restart_delay_s: float = Field(default=10, ge=0)
    stable_after_s: float = Field(default=60, ge=0)
    cancel_timeout_s: float = Field(default=30, gt=0)
    quarantine_s: float = Field(default=600, ge=0)
