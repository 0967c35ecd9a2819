from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.schemas.schema_bounds import bounded_schema
from stillhouse.text.grammar.schemas.schema_reader import MAX_DEPTH, UNSUPPORTED

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
KEYWORDS = st.sampled_from(
    [
        *("$defs", "$ref", "additionalItems", "additionalProperties", "allOf", "anyOf", "const"),
        *("definitions", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "if", "items"),
        *("maximum", "maxItems", "maxLength", "minProperties", "multipleOf", "not", "oneOf"),
        *("pattern", "patternProperties", "prefixItems", "properties", "required", "title", "type"),
    ]
)


def bounded(schema: Any, *, is_strict: bool = True) -> dict[str, Any]:
    return bounded_schema(
        schema, name="The JSON Schema", param="response_format", is_strict=is_strict
    )


def refusal(schema: Any, *, is_strict: bool = True) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        bounded(schema, is_strict=is_strict)
    assert "response_format" == caught.value.param
    return str(caught.value)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def test_annotations_and_unknown_keywords_are_left_out():
    """They assert nothing, and some would change how the rest is read."""
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$id": "https://example.com/a",
        "$anchor": "a",
        "title": "A",
        "description": "Something.",
        "default": {"deep": [[[[]]]]},
        "examples": [1],
        "deprecated": True,
        "readOnly": True,
        "x-guidance": {"lenient": True},
        "nullable": True,
        "type": "object",
        "properties": {"title": {"type": "string", "description": "A member called title."}},
    }

    assert {
        "type": "object",
        "properties": {"title": {"type": "string"}},
    } == bounded(schema)


def test_members_stay_in_their_order():
    """It is the order in which the model writes them."""
    schema = {"properties": {"b": {}, "a": {}, "c": {}}, "required": ["c", "a"]}

    assert ["b", "a", "c"] == list(bounded(schema)["properties"])
    assert ["c", "a"] == bounded(schema)["required"]


@pytest.mark.parametrize("keyword", sorted(UNSUPPORTED))
def test_unsupported_keywords_are_refused_by_name(keyword):
    """Also where they stand deep inside."""
    fault = refusal({"items": {"properties": {"a": {keyword: True}}}})

    assert (
        f"The JSON Schema uses {keyword!r} at #/items/properties/a, which is not supported; right "
        "would be a schema without it"
    ) == fault


def test_an_unsupported_keyword_may_name_a_member():
    """Names of members, and literal values, are no keywords."""
    schema = {"properties": {"not": {"const": {"if": 1}}, "$ref": {"enum": [{"contains": 1}]}}}

    assert schema == bounded(schema)


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"not": {}, "type": "string"}, {"type": "string"}),
        ({"format": "int32"}, {}),
        ({"pattern": "^(?!a)"}, {}),
        ({"pattern": "^a"}, {"pattern": "^a"}),
        ({"minProperties": 1, "properties": {"a": {}}}, {"properties": {"a": {}}}),
        (
            {"minProperties": 1, "properties": {"a": {}}, "required": ["a"]},
            {"minProperties": 1, "properties": {"a": {}}, "required": ["a"]},
        ),
    ],
)
def test_where_the_schema_is_not_strict_what_cannot_be_enforced_is_left_out(schema, left):
    """And everything else stays."""
    assert left == bounded(schema, is_strict=False)


def test_bounds_hold_where_the_schema_is_not_strict():
    """Leniency is about keywords, never about size."""
    assert "nested more than" in refusal(nested(MAX_DEPTH + 1), is_strict=False)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "text"}, "has 'text' at #/type; right would be one of array, boolean"),
        ({"type": []}, r"has [] at #/type"),
        ({"type": ["string", 3]}, "has ['string', 3] at #/type"),
        ({"type": None}, "has None at #/type"),
        ({"properties": []}, "has [] at #/properties; right would be a JSON object of schemas"),
        ({"properties": {"a/b": 3}}, "has 3 at #/properties/a~1b; right would be a JSON object"),
        ({"items": "string"}, "has 'string' at #/items"),
        ({"anyOf": []}, "has [] at #/anyOf; right would be a list of schemas"),
        ({"allOf": {}}, "has {} at #/allOf"),
        ({"required": True}, "has True at #/required; right would be a list of the names"),
        ({"required": [1]}, "has [1] at #/required"),
        ({"minItems": -1}, "has -1 at #/minItems; right would be a whole number from 0 to 1000"),
        ({"maxItems": 1001}, "has 1001 at #/maxItems"),
        ({"minLength": 1.5}, "has 1.5 at #/minLength"),
        ({"maxLength": True}, "has True at #/maxLength"),
        ({"maxLength": float("inf")}, "has inf at #/maxLength"),
        ({"minProperties": "1"}, "has '1' at #/minProperties"),
        ({"minimum": "1"}, "has '1' at #/minimum; right would be a number between"),
        ({"minimum": float("nan")}, "has nan at #/minimum"),
        ({"maximum": 10**400}, "at #/maximum"),
        ({"maximum": 10**5000}, "has a number of thousands of digits at #/maximum"),
        ({"const": [{"a": 2**53 + 1}]}, "has 9007199254740993 at #/const"),
        ({"exclusiveMinimum": None}, "has None at #/exclusiveMinimum"),
        ({"multipleOf": 0}, "has 0 at #/multipleOf; right would be a number greater than 0"),
        ({"pattern": 1}, "has 1 at #/pattern; right would be a regular expression"),
        ({"pattern": "a" * 1025}, "the pattern at #/pattern has 1025 characters"),
        ({"patternProperties": {"a{1001}": {}}}, "the pattern at #/patternProperties repeats"),
        ({"format": "int32"}, "has 'int32' at #/format; right would be one of date, date-time"),
        ({"format": []}, "has [] at #/format"),
        ({"enum": []}, "has [] at #/enum; right would be a list of 1 to 1000 values"),
        ({"enum": list(range(1001))}, "right would be a list of 1 to 1000 values"),
        ({"enum": "ab"}, "has 'ab' at #/enum"),
        ({"$ref": 1}, "has 1 at #/$ref; right would be a place in the same schema"),
        ({"$ref": "https://example.com"}, "has 'https://example.com' at #/$ref"),
        ({"$ref": "#name"}, "has #name at #/$ref"),
        ({"$ref": "#/$defs/a"}, "refers to '#/$defs/a' at #, where no schema is"),
        ({"$ref": "#/$defs", "$defs": {}}, "refers to '#/$defs' at #, where no schema is"),
        ({"prefixItems": [{}], "items": [{}]}, "uses 'prefixItems' at #, which is not supported"),
        (nested(MAX_DEPTH + 1), "is nested more than 32 deep at #/items/items"),
        ({"const": nested(MAX_DEPTH)}, "is nested more than 32 deep at #/const"),
        ({"properties": {str(i): {} for i in range(2000)}}, "has more than 2000 schemas"),
        ({"required": [str(i) for i in range(2000)]}, "has more than 2000 schemas"),
        ([], "has [] at #; right would be a JSON object"),
        (True, "has True at #; right would be a JSON object"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_place(schema, fault):
    """The value, where it stands, and what would be right."""
    assert fault in refusal(schema)


def test_what_is_just_within_bounds_passes():
    """Depth, nodes, values and repetitions at their most."""
    for schema in (
        nested(MAX_DEPTH),
        {"properties": {str(i): {} for i in range(1999)}},
        {"enum": list(range(1000))},
        {"maxLength": 1000, "minItems": 0, "pattern": "a{1000}"},
        {"const": 2**53, "uniqueItems": False},
    ):
        assert set(schema) - {"uniqueItems"} == set(bounded(schema))


def test_references_may_be_escaped():
    """As JSON pointers (RFC 6901) in URI fragments are."""
    schema = {
        "anyOf": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/c%20d"}, {"$ref": "#/anyOf/0"}],
        "$defs": {"a/b": {}, "c d": {}},
    }

    assert schema == bounded(schema)


def doubling(levels: int) -> dict[str, Any]:
    """Each definition names the next one twice."""
    definitions: dict[str, Any] = {
        f"d{i}": {"prefixItems": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]}
        for i in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": definitions | {f"d{levels}": {}}}


def test_references_are_counted_as_if_written_out():
    """So a small schema that stands for an immense one is refused."""
    for levels in (9, 30):  # 2046 schemas, and a thousand million
        assert "stands for more than 2000 schemas" in refusal(doubling(levels))
    assert doubling(8) == bounded(doubling(8))  # 1022


TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    "required": ["children"],
}
LIST = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}},
    "required": ["next"],
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
        {"$ref": "#/$defs/list", "$defs": {"list": LIST}},
        {"type": "object", "properties": {"self": {"$ref": "#"}}},
        {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "prefixItems": [{}, {"$ref": "#"}], "minItems": 1},
        {"type": "array", "items": [{}, {"$ref": "#"}], "minItems": 1},
    ],
)
def test_recursion_with_a_way_out_passes(schema):
    """An empty list, a null, a member that may be missing."""
    assert schema == bounded(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "object", "properties": {"a/~": {"$ref": "#"}}, "required": ["a/~"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "prefixItems": [{}, {"$ref": "#"}], "minItems": 2},
        {"type": "array", "items": [{}], "additionalItems": {"$ref": "#"}, "minItems": 2},
        {"anyOf": [{"$ref": "#"}, {"allOf": [{}, {"$ref": "#/anyOf/0"}]}]},
    ],
)
def test_recursion_without_end_is_refused(schema):
    """A model could but write it until its last token."""
    assert "refers to itself without an end" in refusal(schema)


@given(
    st.recursive(
        JSON, lambda inner: st.dictionaries(KEYWORDS, inner | st.lists(inner)), max_leaves=8
    )
)
def test_any_json_is_bounded_or_refused(schema):
    """Nothing else is ever raised, whatever stands where; what is left is not changed again."""
    for is_strict in (True, False):
        try:
            left = bounded(schema, is_strict=is_strict)
        except InvalidRequestError:
            continue
        assert left == bounded(left, is_strict=is_strict)
