"""Graceful shutdown: first unready, then refusing new requests."""

from __future__ import annotations

from stillhouse.errors import EngineUnavailableError


class Drain:
    """
    The state of a server's shutdown.

    Attributes:
        has_begun: `/readyz` is 503, so that load balancers choose other servers.
        is_refusing: New requests are refused, and each connection closes after its response.

    """

    def __init__(self) -> None:
        self.has_begun = False
        self.is_refusing = False

    def begin(self) -> None:
        """Becomes unready, and keeps serving."""
        self.has_begun = True

    def refuse(self) -> None:
        """Refuses new requests from now on."""
        self.has_begun = self.is_refusing = True

    def check(self) -> None:
        """
        Checks that new requests are served.

        Raises:
            EngineUnavailableError: The server is shutting down.

        """
        if self.is_refusing:
            raise EngineUnavailableError("The server is shutting down; send the request again.")
