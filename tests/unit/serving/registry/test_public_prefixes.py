from __future__ import annotations

from dataclasses import replace

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.checkpoints.checkpoint import read_checkpoint
from stillhouse.errors import ConfigError
from stillhouse.serving.registry.public_prefixes import PublicPrefixes
from stillhouse.text.chat_model import ChatModel, ChatModelSettings
from stillhouse.types.messages import Message, Role
from stillhouse.types.requests import ChatRequest

SHORT = "You are a helpful assistant."
ONLY = (
    "{{% for m in messages %}}{{% if m.role == '{}' %}}"
    "{{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
)
REFUSING = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)
LONG = SHORT + " You answer in one line, in the user's own language, and never guess."


def prompt(chat, system, user="What is the capital of France?"):
    messages = (Message(Role.SYSTEM, system), Message(Role.USER, user))
    return chat.encode_prompt(ChatRequest(DEMO_MODEL, messages)).token_ids


@pytest.fixture(scope="module")
def prefixes(chat):
    return PublicPrefixes.render(chat, [SHORT, LONG])


@pytest.mark.parametrize("user", ["0", "Z", "Hi", "\n", "<｜User｜>", LONG])
@pytest.mark.parametrize("system", [SHORT, LONG])
def test_all_before_the_users_words_is_public(chat, prefixes, system, user):
    """Whatever the user says, and not a token of it."""
    num_tokens = prefixes.num_tokens_of(prompt(chat, system, user))
    alike = prompt(chat, system, "completely different")

    assert num_tokens > 5
    assert prompt(chat, system, user)[:num_tokens] == alike[:num_tokens]
    assert num_tokens <= len(prompt(chat, system, "0")) - 1


def test_the_longest_counts(chat, prefixes):
    """Where one system message begins another, each has its own."""
    short, long = (prefixes.num_tokens_of(prompt(chat, system)) for system in (SHORT, LONG))

    assert short < long


@pytest.mark.parametrize("system", ["You are", SHORT + "!", "", "Other"])
def test_what_differs_is_private(chat, prefixes, system):
    """A system message that was not declared shares nothing, however much it resembles one."""
    assert 0 == prefixes.num_tokens_of(prompt(chat, system))


def test_no_prefixes(chat):
    """Where nothing is declared, nothing is public."""
    assert 0 == PublicPrefixes().num_tokens_of(prompt(chat, SHORT))


async def test_the_engine_is_told(serving, prefixes):
    """Requests say how much of them is public, and those of other words that nothing is."""

    async def load(_spec, replicas):
        await replicas.start(serving.engine)
        return replace(serving.model, public_prefixes=prefixes)

    await serving.registry.unload(DEMO_MODEL, grace_s=0)
    await serving.registry.load(DEMO_MODEL, load)
    user = Message(Role.USER, "Hello!")
    await serving.answer(messages=(Message(Role.SYSTEM, SHORT), user))
    await serving.answer(messages=(Message(Role.SYSTEM, "A secret."), user))

    public, private = serving.engine.requests
    assert prefixes.num_tokens_of(public.prompt_token_ids) == public.num_public_tokens > 0
    assert 0 == private.num_public_tokens


@pytest.mark.parametrize(
    "template",
    [
        ONLY.format("user"),
        ONLY.format("user") + ONLY.format("system"),
        REFUSING,
    ],
    ids=["left out", "last", "refused"],
)
def test_a_model_without_a_system_message_at_its_beginning(chat, template):
    """A template that leaves it out, puts it last or refuses it cannot share one."""
    checkpoint = read_checkpoint(chat.checkpoint_path)
    settings = ChatModelSettings(model_id=DEMO_MODEL, family="plain")
    plain = ChatModel(replace(checkpoint, chat_template=template), settings)
    with pytest.raises(ConfigError, match="public_prefixes"):
        PublicPrefixes.render(plain, [SHORT])
