"""Decides which credential a path needs, before a route is matched."""

from __future__ import annotations

from collections.abc import Iterable

from stillhouse.api.http.operation import Access
from stillhouse.api.http.routing import ApiRoute


class PathAccess:
    """
    Separates public paths and the operator's paths from those that need a key.

    A path that no route has needs a key. A public route with parameters opens everything below
    its part without parameters.

    Raises:
        ValueError: A public route opens a path that needs a key.

    """

    def __init__(self, routes: Iterable[ApiRoute]) -> None:
        public = [route for route in routes if route.access is Access.PUBLIC]
        protected = [route for route in routes if route.access is not Access.PUBLIC]
        self._public_paths = {route.path for route in public if not route.param_convertors}
        self._public_prefixes = tuple(
            {route.path.partition("{")[0] for route in public if route.param_convertors}
        )
        self._admin_paths = {route.path for route in protected if route.access is Access.ADMIN}
        for route in protected:
            if self.is_public(route.path):
                raise ValueError(f"{route.path} needs a key, and a public route opens it.")

    def is_public(self, path: str) -> bool:
        """Returns whether *path* is served without a key."""
        return path in self._public_paths or path.startswith(self._public_prefixes)

    def is_admins(self, path: str) -> bool:
        """Returns whether *path* concerns all accounts, so that no customer's key opens it."""
        return path in self._admin_paths
