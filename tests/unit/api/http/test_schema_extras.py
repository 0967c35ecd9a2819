from __future__ import annotations

from stillhouse.api.http.schema_extras import describe_required_fields

TEXT = {"type": "string", "maxLength": 9}
NUMBER = {"type": "integer"}


def schema_of(**tag):
    return {
        "properties": {
            "type": {"type": "string", **tag},
            "text": {"anyOf": [TEXT, {"type": "null"}]},
            "number": NUMBER,
        }
    }


def test_each_word_needs_its_fields():
    """A field that may be null elsewhere is not, where a word needs it."""
    schema = schema_of()
    describe_required_fields(
        schema, "type", [("said", ("text",)), ("counted", ("number",)), ("empty", ())]
    )

    assert [
        {"properties": {"type": {"const": "said"}, "text": TEXT}, "required": ["type", "text"]},
        {
            "properties": {"type": {"const": "counted"}, "number": NUMBER},
            "required": ["type", "number"],
        },
        {"properties": {"type": {"const": "empty"}}, "required": ["type"]},
    ] == schema["anyOf"]


def test_the_usual_word_may_be_left_out():
    """Where a word is meant by itself, only its fields are required."""
    schema = schema_of(default="said")
    describe_required_fields(schema, "type", [("said", ("text",)), ("counted", ("number",))])

    assert [["text"], ["type", "number"]] == [way["required"] for way in schema["anyOf"]]


def test_fields_of_one_word_are_null_beside_the_others():
    """What is refused beside a word is said to be."""
    schema = schema_of()
    describe_required_fields(
        schema, "type", [("said", ("text",)), ("empty", ())], is_exclusive=True
    )

    assert [TEXT, {"type": "null"}] == [way["properties"]["text"] for way in schema["anyOf"]]
