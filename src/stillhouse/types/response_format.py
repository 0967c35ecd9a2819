"""Defines the formats that a request can require of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.types.json_object import JsonObject


@dataclass(frozen=True, slots=True)
class JsonObjectFormat:
    """The answer is any JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchemaFormat:
    """The answer is JSON that fits a JSON Schema."""

    schema: JsonObject


@dataclass(frozen=True, slots=True)
class RegexFormat:
    """The whole answer matches a regular expression."""

    regex: str


ResponseFormat = JsonObjectFormat | JsonSchemaFormat | RegexFormat
