"""Reads one entry of the catalogue, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from stillhouse.catalogue.model_spec import MAX_OUTPUT_TOKENS, ModelSpec
from stillhouse.catalogue.task import Task
from stillhouse.errors import ConfigError
from stillhouse.money import price_picousd_per_token
from stillhouse.settings import Section
from stillhouse.text.families import FAMILIES
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.tariff import MAX_PICOUSD_PER_TOKEN, Tariff

Table = Mapping[str, object]


def _decimal(value: object) -> Decimal:
    """Returns the number as it was written: a float's shortest form is what the file held."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError  # noqa: TRY004  (pydantic reports a ValueError with the key)
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError from error
    if not number.is_finite():
        raise ValueError
    return number


def _price_picousd(value: object) -> int:
    number = _decimal(value)
    try:
        price = price_picousd_per_token(number)
    except ValueError as error:
        raise ValueError("at least 0 USD per million tokens, with at most six decimals") from error
    if price > MAX_PICOUSD_PER_TOKEN:
        raise ValueError(f"at most {MAX_PICOUSD_PER_TOKEN // 10**6} USD per million tokens")
    return price


_TEXT = "a text"
_TEXTS = "a list of texts"
_COUNT = "a whole number of at least 1"
_FLAG = "true or false"
_PRICE = 'USD per million tokens, like "0.60"'
_PRICES = 'a table like { input = "0.20", output = "0.60" }'
_FAMILIES = sorted(FAMILIES)
_TASKS = ", ".join(Task)

# What would be right of a field, if its value is wrong, is its description.
Text = Annotated[str, Field(strict=True, min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[Decimal, BeforeValidator(_decimal)]
Price = Annotated[int, BeforeValidator(_price_picousd)]


class Prices(Section):
    """
    Table ``usd_per_million_tokens`` of an entry; its values are read as pico-dollars per token.

    Args:
        cached_input: Costs as much as any input if None.

    """

    input: Price = Field(description=_PRICE)
    output: Price = Field(description=_PRICE)
    cached_input: Price | None = Field(default=None, description=_PRICE)

    def tariff(self) -> Tariff:
        """Returns the prices as a tariff."""
        cached = self.input if self.cached_input is None else self.cached_input
        return Tariff(
            input_picousd=self.input, cached_input_picousd=cached, output_picousd=self.output
        )


class Entry(Section):
    """
    Table ``models."owner/name"``: one entry of the catalogue.

    The ranges of `temperature`, `top_p`, `top_k` and `min_p` are those of DeepInfra's request
    fields.
    """

    family: Text = Field(
        pattern=f"^({'|'.join(_FAMILIES)})$", description=f"one of {', '.join(_FAMILIES)}"
    )
    usd_per_million_tokens: Prices = Field(description=_PRICES)
    task: Task = Field(default=Task.CHAT, description=f"one of {_TASKS}")
    aliases: tuple[Text, ...] = Field(default=(), description=_TEXTS)
    version: Text | None = Field(default=None, description=_TEXT)
    checkpoint: Text | None = Field(default=None, description=_TEXT)
    context_length: Count | None = Field(default=None, description=_COUNT)
    max_output_tokens: Count = Field(default=MAX_OUTPUT_TOKENS, description=_COUNT)
    temperature: Number = Field(default=Decimal(1), ge=0, le=2, description="a number from 0 to 2")
    top_p: Number = Field(
        default=Decimal(1),
        ge=Decimal("0.000001"),
        le=1,
        description="a number from 0.000001 to 1",
    )
    top_k: Count | None = Field(default=None, description=_COUNT)
    min_p: Number = Field(default=Decimal(0), ge=0, le=1, description="a number from 0 to 1")
    reasoning_in_content: bool = Field(default=False, strict=True, description=_FLAG)
    quantization: Text | None = Field(default=None, description=_TEXT)
    description: Text | None = Field(default=None, description=_TEXT)
    tags: tuple[Text, ...] = Field(default=(), description=_TEXTS)

    def spec(self, model_id: str) -> ModelSpec:
        """Returns the specification of the model that the entry describes."""
        return ModelSpec(
            id=model_id,
            family=self.family,
            price=self.usd_per_million_tokens.tariff(),
            task=self.task,
            aliases=self.aliases,
            version=self.version,
            checkpoint=self.checkpoint,
            context_length=self.context_length,
            max_output_tokens=self.max_output_tokens,
            recommended=SamplingParams(
                temperature=float(self.temperature),
                top_p=float(self.top_p),
                top_k=self.top_k or 0,
                min_p=float(self.min_p),
            ),
            reasoning_in_content=self.reasoning_in_content,
            quantization=self.quantization,
            description=self.description or "",
            tags=self.tags,
        )


def read_entry(model_id: str, table: Table, *, source: str) -> ModelSpec:
    """
    Returns the specification that a TOML table describes.

    Args:
        model_id: ``owner/name``.
        table: Its keys are the fields of `Entry`.
        source: The file's name, for messages.

    Raises:
        ConfigError: A key is unknown, missing or wrong; names file, key and what would be right.

    """
    place = f'{source}: models."{model_id}"'
    if not model_id.partition("/")[2] or ":" in model_id:
        raise ConfigError(f'{place}: an id reads "owner/name", without ":"')
    given = {key: value for key, value in table.items() if value is not None}
    try:
        return Entry.model_validate(given).spec(model_id)
    except ValidationError as error:
        raise ConfigError(_message_of(place, given, error)) from error


def _message_of(place: str, table: Table, error: ValidationError) -> str:
    first = error.errors()[0]
    *path, key = [part for part in first["loc"] if isinstance(part, str)]
    section: type[BaseModel] = Entry
    for part in path:
        section = cast("type[BaseModel]", section.model_fields[part].annotation)
        table = cast("Table", table[part])
        place = f"{place}.{part}"
    if first["type"] == "extra_forbidden":
        return (
            f"{place}: unknown key {key!r}; known here: {', '.join(sorted(section.model_fields))}"
        )
    return f"{place}.{key} {_found(table, key)}; right would be {_right(section, key, first)}"


def _found(table: Table, key: str) -> str:
    if key not in table:
        return "is missing"
    value = table[key]
    return f"is {value}" if isinstance(value, Decimal) else f"is {value!r}"


def _right(section: type[BaseModel], key: str, error: Mapping[str, Any]) -> str:
    said = str(error.get("ctx", {}).get("error", ""))
    return said or str(section.model_fields[key].description)
