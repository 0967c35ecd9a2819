"""Finds models by id, alias and version."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import cast

from stillhouse.catalogue.entry import Table, read_entry
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.errors import ConfigError, ModelNotFoundError

BUILT_IN_PATH = Path(__file__).with_name("catalogue.toml")
SHOWN_NAME_CHARS = 100


class Catalogue:
    """
    Finds models by id, alias and version.

    Args:
        specs: Ids and aliases must be unique among all of them.
        fallback_models: Model id -> the id of the model that answers while the first is not loaded.

    Raises:
        ConfigError: A name leads to two models, or a fallback model to none.

    """

    def __init__(
        self, specs: Iterable[ModelSpec], *, fallback_models: Mapping[str, str] | None = None
    ) -> None:
        self._by_id = {spec.id: spec for spec in specs}
        self._id_by_name = _names(self._by_id.values())
        self._fallback_models = dict(fallback_models or {})
        for requested, answering in self._fallback_models.items():
            if answering not in self._by_id:
                raise ConfigError(
                    f"fallback model {answering!r} for {requested!r} is not in the catalogue; "
                    f"right would be one of {', '.join(sorted(self._by_id))}"
                )

    @classmethod
    def load(
        cls,
        entries: Path | Table | None = None,
        *,
        source: str = "configuration",
        fallback_models: Mapping[str, str] | None = None,
    ) -> Catalogue:
        """
        Loads the built-in catalogue with an operator's entries laid over it.

        Args:
            entries: A TOML file of ``[models."owner/name"]`` tables, or that `models` table
                itself. Where an id is built in, the given keys replace the built-in ones.
            source: The file's name, for messages about a table.

        Raises:
            ConfigError: Names the file, the key and what would be right.

        """
        built_in = _read_models(BUILT_IN_PATH)
        if isinstance(entries, Path):
            source, own = str(entries), _read_models(entries)
        else:
            own = _tables(entries or {}, source=source)
        specs = [
            read_entry(model_id, table, source=BUILT_IN_PATH.name)
            for model_id, table in built_in.items()
            if model_id not in own
        ]
        specs += [
            read_entry(model_id, {**built_in.get(model_id, {}), **table}, source=source)
            for model_id, table in own.items()
        ]
        return cls(specs, fallback_models=fallback_models)

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """All models of the catalogue, loaded or not, sorted by id."""
        return tuple(self._by_id[model_id] for model_id in sorted(self._by_id))

    def resolve(self, name: str, *, loaded: Collection[str]) -> ModelSpec:
        """
        Returns the model with this name: an id, an alias, or either with ``:VERSION``.

        Args:
            loaded: Ids of the models that are served here.

        Raises:
            ModelNotFoundError: The model or its version is unknown, or known but not loaded; says
                what is loaded.

        """
        bare_name, colon, version = name.partition(":")
        if bare_name == "deploy_id":
            raise _not_found("Dedicated deployments (deploy_id) are not offered here.", loaded)
        model_id = self._id_by_name.get(bare_name)
        if model_id is None:
            raise _not_found(f"There is no model {name[:SHOWN_NAME_CHARS]!r}.", loaded)
        if model_id not in loaded and not colon:  # a version is that very model's
            model_id = self._fallback_models.get(model_id, model_id)
        spec = self._by_id[model_id]
        if colon and version != spec.version:
            raise _not_found(_unknown_version(spec, version), loaded)
        if model_id not in loaded:
            raise _not_found(f"{model_id} is in the catalogue, but not served here.", loaded)
        return spec


def _names(specs: Iterable[ModelSpec]) -> dict[str, str]:
    id_by_name: dict[str, str] = {}
    for spec in specs:
        for name in (spec.id, *spec.aliases):
            other_id = id_by_name.setdefault(name, spec.id)
            if other_id != spec.id or ":" in name:
                raise ConfigError(
                    f'models."{spec.id}".aliases: {name!r} must not hold ":" and must not be a '
                    f"name of another model (of {other_id})"
                )
    return id_by_name


def _unknown_version(spec: ModelSpec, version: str) -> str:
    known = f"version {spec.version!r}" if spec.version else "no versions"
    return f"{spec.id} has {known} here, not {version[:SHOWN_NAME_CHARS]!r}."


def _not_found(what: str, loaded: Collection[str]) -> ModelNotFoundError:
    served = ", ".join(sorted(loaded)) or "nothing"
    return ModelNotFoundError(f"{what} Models here: {served}.")


def _read_models(path: Path) -> dict[str, Table]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML in UTF-8 ({error})") from error
    models = document.pop("models", {})
    if document:
        key = next(iter(document))
        raise ConfigError(f'{path}: {key}: no such key; entries are [models."owner/name"] tables')
    return _tables(models, source=str(path))


def _tables(models: object, *, source: str) -> dict[str, Table]:
    if not isinstance(models, Mapping):
        raise ConfigError(f'{source}: models: right would be [models."owner/name"] tables')
    for model_id, table in models.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f'{source}: models."{model_id}": right would be a table')
    return cast("dict[str, Table]", dict(models))
