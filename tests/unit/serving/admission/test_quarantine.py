from __future__ import annotations

from dataclasses import replace

import pytest

from stillhouse.clock import FrozenClock
from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.errors import QuarantinedRequestError
from stillhouse.serving.admission.quarantine import Fingerprint, Quarantine
from stillhouse.types.sampling import SamplingParams

MODEL = "demo/a"
REQUEST = GenerateRequest("id", [1, 2, 3], 10)


def fingerprint(account_id=1, model_id=MODEL, request=REQUEST):
    return Fingerprint(account_id, model_id, request)


@pytest.fixture
def quarantine():
    return Quarantine(FrozenClock(), quarantine_s=600)


def is_refused(quarantine, asked):
    try:
        quarantine.refuse(asked)
    except QuarantinedRequestError:
        return True
    return False


@pytest.mark.parametrize(
    "same", [replace(REQUEST, request_id="other"), replace(REQUEST, cache_salt="other")]
)
def test_what_the_same_account_asks_again_is_the_same(quarantine, same):
    """Whatever the gateway calls it."""
    for crash in (1, 2):
        quarantine.record_crash(fingerprint(), crash)

    assert is_refused(quarantine, fingerprint(request=same))


@pytest.mark.parametrize(
    "other",
    [
        fingerprint(account_id=2),
        fingerprint(model_id="demo/b"),
        fingerprint(request=replace(REQUEST, prompt_token_ids=[1, 2, 4])),
        fingerprint(request=replace(REQUEST, sampling=SamplingParams(temperature=0.5))),
        fingerprint(request=replace(REQUEST, grammar=Grammar("{}"))),
    ],
)
def test_what_differs_is_another_request(quarantine, other):
    """Another account's, another model's, another prompt, parameter or grammar."""
    for crash in (1, 2):
        quarantine.record_crash(fingerprint(), crash)

    assert not is_refused(quarantine, other)


def test_several_of_the_same_in_one_crash_are_one(quarantine):
    """Ten copies at once are one crash of one request."""
    for _ in range(10):
        quarantine.record_crash(fingerprint(), 1)

    assert not is_refused(quarantine, fingerprint())
    assert not quarantine.is_suspect(fingerprint())


def test_crashes_of_two_models_are_two(quarantine):
    """Each engine counts its own from one."""
    for model_id in (MODEL, "demo/b"):
        quarantine.record_crash(fingerprint(model_id=model_id), 1)

    assert not is_refused(quarantine, fingerprint())


def test_two_suspects_of_one_crash_are_not_refused(quarantine):
    """One of them may be innocent; the one that is alone in the next crash is not."""
    others = [fingerprint(request=replace(REQUEST, prompt_token_ids=[n])) for n in range(2)]
    for crash in (1, 2):
        for each in others:
            quarantine.record_crash(each, crash)
    before = [is_refused(quarantine, each) for each in others]
    quarantine.record_crash(others[0], 3)

    assert [False, False] == before
    assert [True, False] == [is_refused(quarantine, each) for each in others]
    assert quarantine.is_suspect(others[1])


def test_what_is_remembered_is_bounded(quarantine):
    """The latest crashes are; of three thousand requests about one."""
    for number in range(3000):
        request = replace(REQUEST, prompt_token_ids=[number])
        quarantine.record_crash(fingerprint(request=request), number)

    assert 1024 == len(quarantine)


def test_it_can_be_turned_off():
    """With no time to remember anything, nothing is."""
    quarantine = Quarantine(FrozenClock(), quarantine_s=0)
    for crash in (1, 2, 3):
        quarantine.record_crash(fingerprint(), crash)

    assert not is_refused(quarantine, fingerprint())
    assert 0 == len(quarantine)
