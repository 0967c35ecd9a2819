import pytest

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.schemas import schema_bounds
from stillhouse.text.grammar.schemas.known_schemas import KnownSchemas
from stillhouse.text.grammar.schemas.schema_bounds import bounded_schema
from stillhouse.text.grammar.schemas.schema_reader import MAX_CHARS


def read(schema, *, is_strict=True):
    return bounded_schema(schema, name="It", param="tools", is_strict=is_strict)


def test_a_schema_that_comes_again_is_not_read_again(monkeypatch):
    """An equal one is enough; one whose members stand in another order is another."""
    monkeypatch.setattr(schema_bounds, "_KNOWN", KnownSchemas(max_chars=1000))
    schema = {"type": "object", "properties": {"a": {"type": "null"}, "b": {"const": 1}}}
    first = read(schema)
    other = read({"type": "object", "properties": {"b": {"const": 1}, "a": {"type": "null"}}})
    assert first is read({**schema, "properties": dict(schema["properties"])})
    assert first is not other
    assert ["b", "a"] == [*other["properties"]]
    assert first is not read(
        {**schema, "properties": {**schema["properties"], "b": {"const": 1.0}}}
    )


def test_what_is_read_leniently_is_not_taken_for_strict(monkeypatch):
    """What one reading leaves out the other refuses, in whatever order they come."""
    monkeypatch.setattr(schema_bounds, "_KNOWN", KnownSchemas(max_chars=1000))
    schema = {"type": "string", "not": {"const": "a"}}
    assert {"type": "string"} == read(schema, is_strict=False)
    with pytest.raises(InvalidRequestError, match="'not'"):
        read(schema)


def test_what_is_refused_is_refused_again():
    """With the name that it has this time."""
    for name in ("One", "Two"):
        with pytest.raises(InvalidRequestError, match=f"{name} has 'x' at #/type"):
            bounded_schema({"type": "x"}, name=name, param="tools")


def test_what_is_remembered_is_bounded_by_its_characters():
    """What was not asked for longest goes first, and what is too long is not remembered."""
    known = KnownSchemas(max_chars=50)
    schemas = [{"const": number * 10**9} for number in range(1, 6)]  # of 20 characters each
    known.note(schemas[0], schemas[0], is_strict=True)
    known.note(schemas[1], schemas[1], is_strict=True)
    assert schemas[0] == known.find(schemas[0], is_strict=True)
    known.note(schemas[2], schemas[2], is_strict=True)
    known.note({"const": "x" * 60}, {}, is_strict=True)
    assert 2 == len(known)
    assert known.find(schemas[1], is_strict=True) is None
    assert schemas[0] == known.find(schemas[0], is_strict=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": "x" * MAX_CHARS + "x"},
        {"enum": ["x" * (MAX_CHARS // 2), {"x" * (MAX_CHARS // 2): 1}, "x"]},
        {"properties": {"x" * (MAX_CHARS + 1): {}}},
        {"required": ["x" * (MAX_CHARS + 1)]},
        {"pattern": "x" * (MAX_CHARS + 1)},
    ],
)
def test_a_schema_of_very_many_characters_is_refused_as_it_is_read(schema):
    """Wherever they stand: none of them is looked at any closer."""
    with pytest.raises(InvalidRequestError, match=f"would be at most {MAX_CHARS}"):
        read(schema)
