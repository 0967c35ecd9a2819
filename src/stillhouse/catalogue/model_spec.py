"""One entry of the catalogue, read and checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from types import NoneType

from stillhouse.errors import ConfigError
from stillhouse.money import price_picousd_per_token
from stillhouse.text.families import FAMILIES
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.tariff import Tariff

Table = Mapping[str, object]

MAX_OUTPUT_TOKENS = 16_384  # DeepInfra's cap where a request names none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """
    One entry of the catalogue.

    Args:
        id: ``owner/name``, as clients ask for it.
        family: Name of an entry of `FAMILIES`.
        aliases: Other names for the same model.
        version: What may stand after ``id:``; None allows no version.
        checkpoint: Folder of the model's files, or the name of one that comes with stillhouse;
            None: known, but with no files to load.
        context_length: Most tokens of prompt and answer together; None takes the checkpoint's.
        max_output_tokens: Most tokens of an answer where the request names none.
        recommended: How the model's makers say to draw tokens.
        reasoning_in_content: Reasoning is told in the content, between its marks, as DeepInfra did
            before August 2025; else apart.

    """

    id: str
    family: str
    price: Tariff
    aliases: tuple[str, ...] = ()
    version: str | None = None
    checkpoint: str | None = None
    context_length: int | None = None
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    recommended: SamplingParams = field(default_factory=SamplingParams)
    reasoning_in_content: bool = False
    quantization: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """Who made the model: the part of its id before the slash."""
        return self.id.partition("/")[0]


def read_model_spec(model_id: str, table: Table, *, source: str) -> ModelSpec:
    """
    The entry that a TOML table describes.

    Args:
        model_id: ``owner/name``.
        table: Keys are the fields of `ModelSpec`, with `usd_per_million_tokens` for the price.
        source: The file's name, for messages.

    Raises:
        ConfigError: A key is unknown, missing or wrong; names file, key and what would be right.

    """
    fields = _Fields(table, place=f'{source}: models."{model_id}"')
    if not model_id.partition("/")[2] or ":" in model_id:
        raise ConfigError(f'{source}: models."{model_id}": an id reads "owner/name", without ":"')
    spec = ModelSpec(
        id=model_id,
        family=fields.one_of("family", FAMILIES),
        price=_read_price(fields),
        aliases=fields.texts("aliases"),
        version=fields.text_or_none("version"),
        checkpoint=fields.text_or_none("checkpoint"),
        context_length=fields.count_or_none("context_length"),
        max_output_tokens=fields.count_or_none("max_output_tokens") or MAX_OUTPUT_TOKENS,
        recommended=_read_sampling(fields),
        reasoning_in_content=fields.flag("reasoning_in_content"),
        quantization=fields.text_or_none("quantization"),
        description=fields.text_or_none("description") or "",
        tags=fields.texts("tags"),
    )
    fields.refuse_unread()
    return spec


def _read_price(fields: _Fields) -> Tariff:
    prices = fields.table("usd_per_million_tokens")
    input_picousd = prices.price("input")
    price = Tariff(
        input_picousd=input_picousd,
        # Without a price of their own, cached tokens cost what any input costs.
        cached_input_picousd=prices.price("cached_input", default_picousd=input_picousd),
        output_picousd=prices.price("output"),
    )
    prices.refuse_unread()
    return price


def _read_sampling(fields: _Fields) -> SamplingParams:
    """Ranges are those of DeepInfra's request fields."""
    standard = SamplingParams()
    return SamplingParams(
        temperature=fields.number("temperature", standard.temperature, high=Decimal(2)),
        top_p=fields.number("top_p", standard.top_p, low=Decimal("0.000001")),
        top_k=fields.count_or_none("top_k") or standard.top_k,
        min_p=fields.number("min_p", standard.min_p),
    )


class _Fields:
    """The keys of one table, each read once and checked."""

    def __init__(self, table: Table, *, place: str) -> None:
        self._table = table
        self._place = place
        self._read: set[str] = set()

    def table(self, key: str) -> _Fields:
        value = self._take(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, 'a table like { input = "0.20", output = "0.60" }')
        return _Fields(value, place=f"{self._place}.{key}")

    def one_of(self, key: str, names: Mapping[str, object]) -> str:
        value = self._take(key)
        if not isinstance(value, str) or value not in names:
            raise self._wrong(key, f"one of {', '.join(sorted(names))}")
        return value

    def text_or_none(self, key: str) -> str | None:
        value = self._take(key)
        if not isinstance(value, str | NoneType) or value == "":
            raise self._wrong(key, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
            raise self._wrong(key, "a list of texts")
        return tuple(value)

    def count_or_none(self, key: str) -> int | None:
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, "a whole number of at least 1")
        return value

    def flag(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool | NoneType):
            raise self._wrong(key, "true or false")
        return bool(value)

    def number(
        self, key: str, default: float, *, low: Decimal = Decimal(0), high: Decimal = Decimal(1)
    ) -> float:
        value = self._take(key)
        if value is None:
            return default
        number = _decimal(value)
        if number is None or not low <= number <= high:
            raise self._wrong(key, f"a number from {low} to {high}")
        return float(number)

    def price(self, key: str, *, default_picousd: int | None = None) -> int:
        value = self._take(key)
        if value is None and default_picousd is not None:
            return default_picousd
        number = _decimal(value)
        if number is None:
            raise self._wrong(key, 'USD per million tokens, like "0.60"')
        try:
            return price_picousd_per_token(number)
        except ValueError as error:
            raise self._wrong(key, str(error)) from error

    def refuse_unread(self) -> None:
        for key in self._table.keys() - self._read:
            known = ", ".join(sorted(self._read))
            raise ConfigError(f"{self._place}.{key}: no such key; there are {known}")

    def _take(self, key: str) -> object:
        self._read.add(key)
        return self._table.get(key)

    def _wrong(self, key: str, right: str) -> ConfigError:
        value = self._table.get(key)
        found = "is missing" if value is None else f"is {value!r}"
        return ConfigError(f"{self._place}.{key} {found}; right would be {right}")


def _decimal(value: object) -> Decimal | None:
    """
    The number as it was written.

    A float's shortest form is what stood in the file, up to 15 digits.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
