from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.anthropic.system_messages import fold_system_messages
from stillhouse.types.messages import Message, Role, ToolCall

CALLS = (ToolCall("c1", "look_up", "{}"),)
_ROLES = {"s": Role.SYSTEM, "u": Role.USER, "a": Role.ASSISTANT, "t": Role.TOOL}


def conversation(roles):
    """A message for each letter; its content is its place."""
    return [Message(_ROLES[role], str(place)) for place, role in enumerate(roles)]


def told(messages):
    return [(message.role.value[0], message.content) for message in messages]


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("u", [("u", "0")]),
        ("su", [("s", "0"), ("u", "1")]),
        ("ssu", [("s", "0\n\n1"), ("u", "2")]),
        ("us", [("u", "0\n\n1")]),
        ("suss", [("s", "0"), ("u", "1\n\n2\n\n3")]),
        ("uas", [("u", "0"), ("a", "1"), ("u", "2")]),
        ("uasu", [("u", "0"), ("a", "1"), ("u", "2\n\n3")]),
        ("uassau", [("u", "0"), ("a", "1"), ("u", "2\n\n3"), ("a", "4"), ("u", "5")]),
        ("uatsa", [("u", "0"), ("a", "1"), ("t", "2\n\n3"), ("a", "4")]),
        ("uast", [("u", "0"), ("a", "1"), ("t", "3\n\n2")]),
    ],
)
def test_remarks_stay_where_they_were_made(roles, expected):
    """Each remark is read with what stood beside it, and never between a call and its result."""
    assert expected == told(fold_system_messages(conversation(roles)))


@given(st.text("suat", max_size=12))
def test_nothing_that_was_said_is_lost(roles):
    """Whatever the order of turns, all is there, and the system speaks first or not at all."""
    messages = fold_system_messages(conversation(roles))
    places = [place for message in messages for place in message.content.split("\n\n")]

    assert sorted(str(place) for place in range(len(roles))) == sorted(filter(None, places))
    assert not [message for message in messages[1:] if message.role is Role.SYSTEM]


@given(st.text("suat", max_size=8), st.text("suat", max_size=4))
def test_a_longer_conversation_changes_its_end_alone(roles, more):
    """However it goes on, all but the last message is as before, for the prefix cache."""
    before = fold_system_messages(conversation(roles))
    after = fold_system_messages(conversation(roles + more))

    assert told(before[:-1]) == told(after[: len(before)][:-1])


def test_calls_and_thoughts_are_kept():
    """What an assistant did stands beside a remark as it was."""
    message = Message(Role.ASSISTANT, "Wait.", reasoning="Hm.", tool_calls=CALLS)

    assert (
        message == fold_system_messages([Message(Role.USER, "Hi"), message, *conversation("s")])[1]
    )
