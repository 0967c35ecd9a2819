"""Prepares statements: SQLAlchemy compiles them once, then the driver executes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ClauseElement, Connection, Dialect

NO_VALUES: Mapping[str, Any] = {}


class Rows(Protocol):
    """The result of a statement: a cursor of the driver, or SQLAlchemy's result around one."""

    @property
    def rowcount(self) -> int:
        """Returns the number of rows that an update changed."""
        ...

    def fetchone(self) -> Any:
        """Returns the next row in the order of its columns; None behind the last one."""
        ...


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in one database's SQL, and the values that the statement itself contains."""

    sql: str
    constants: Mapping[str, Any]


class Prepared:
    """
    A statement that is run for every request.

    `Connection.execute` builds a compiler's state and two contexts for each execution, which takes
    seven times as long as SQLite's own work (decision 2). This passes the compiled SQL to the
    driver. It suits plain integers, texts and bytes: SQLAlchemy's types convert neither the
    parameters nor the rows, which are plain tuples.

    Args:
        parameters: The columns that an insert or update sets from its row.

    """

    def __init__(self, statement: ClauseElement, *parameters: str) -> None:
        self._statement = statement
        self._parameters = parameters
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, row: Mapping[str, Any]) -> Rows:
        """
        Runs the statement with the values in *row*.

        Raises:
            InvalidRequestError: SQLAlchemy's: the first row lacks a parameter. This is a bug.

        """
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name) or self._compile(dialect, row)
        constants = compiled.constants
        return run_sql(connection, compiled.sql, {**constants, **row} if constants else row)

    def _compile(self, dialect: Dialect, row: Mapping[str, Any]) -> _Compiled:
        """Compiles the statement with named parameters; the engines of both backends use these."""
        statement = self._statement.compile(dialect=dialect, column_keys=list(self._parameters))
        parameters = statement.construct_params(dict(row)) or {}  # raises if one is missing
        constants = {name: value for name, value in parameters.items() if name not in row}
        self._compiled[dialect.name] = compiled = _Compiled(str(statement), constants)
        return compiled


def run_sql(connection: Connection, sql: str, values: Mapping[str, Any] = NO_VALUES) -> Rows:
    """
    Executes SQL of the driver's own parameter style, without SQLAlchemy where it need not know.

    Errors of SQLite's driver are raised as they are, and `library_error.translated` knows them.
    PostgreSQL's pass through SQLAlchemy, which tells a lost connection from a refused statement.
    """
    if connection.dialect.name == "sqlite":
        rows: Rows = driver_of(connection).execute(sql, values)
        return rows
    return connection.exec_driver_sql(sql, dict(values) or None)


def driver_of(connection: Connection) -> Any:
    """Returns the driver's connection within SQLAlchemy's."""
    return connection.connection.driver_connection
