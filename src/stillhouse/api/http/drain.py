"""How the API takes leave: first not ready, then refusing what is new."""

from __future__ import annotations

from stillhouse.errors import EngineUnavailableError


class Drain:
    """
    Where a server stands that is to end.

    Attributes:
        has_begun: It says that it is not ready, so that load balancers look elsewhere.
        is_refusing: New requests are refused, and each connection ends with its answer.

    """

    def __init__(self) -> None:
        self.has_begun = False
        self.is_refusing = False

    def begin(self) -> None:
        """Be not ready, and serve on."""
        self.has_begun = True

    def refuse(self) -> None:
        """Let nothing in any more."""
        self.has_begun = self.is_refusing = True

    def check(self) -> None:
        """
        Let a request in.

        Raises:
            EngineUnavailableError: The server is about to end.

        """
        if self.is_refusing:
            raise EngineUnavailableError("The server is shutting down; send the request again.")
