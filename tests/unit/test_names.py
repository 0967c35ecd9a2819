"""The package keeps the field's own words: an old private synonym that comes back fails here."""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

import stillhouse

PACKAGE = Path(stillhouse.__file__).parent

#: Old identifiers, and the field's words for them.
OLD_NAMES = {
    "Gate": "AuthMiddleware",
    "Door CountDoor DOORS COUNT_DOORS door_routes": "EndpointSpec, routes",
    "Asked AnswerForm": "ParsedRequest, ResponseWriter",
    "Departure": "DisconnectWatcher",
    "AnswerHead": "ResponseMeta",
    "Places Place": "AdmissionController, Slot",
    "Turns Turn come _let_go": "RequestQueue, QueueEntry, dispatch",
    "Order _Line _Going": "FairScheduler, TierQueue, InFlight",
    "Watch saw saw_start saw_end": "RequestMetrics, record_…",
    "Resolver": "SettlementRetrier",
    "most_tokens": "max_new_tokens",
    "SamplingWishes": "SamplingOverrides",
    "Reply": "OutputParser",
    "Told Stretch": "DeltaBuffer, TextSpan",
    "Beginning Written": "AssistantPrefill, RenderedPrompt",
    "HiddenTexts HiddenText": "PlaceholderMap",
    "guesses Drawn": "draft tokens, SamplerOutput",
    "Prefixes PrefixSpill prefix_spill_mib": "PrefixCache, DiskTier, prefix_disk_mib",
    "GatewayLink live_and_die_with_parent": "WorkerChannel, run_worker, die_with_parent",
    "ChildEngine": "WorkerEngine",
    "PatientConnection Dialler allow_time patience patience_s": "ConnectionFactory, timeout",
    "Rooms in_rooms open_rooms": "Services, with_services, open_services",
    "STAND_INS stand_ins": "fallback_models",
    "DIALECTS": "ModelFamily, FAMILIES",
}
#: Words that are old in prose, too: in docstrings, comments and messages.
OLD_WORDS = {
    r"doors?": "route, endpoint, API dialect",
    r"(the|our) gate": "the authentication middleware",
    r"departures?": "disconnect",
    r"wish(es)?": "override, setting",
    r"stand-ins?": "fallback model",
    r"prefix(es)? spill": "disk tier",
    r"patien(ce|t)": "timeout",
    r"nobody|whoever|everybody": "the client, the account, the caller",
    r"guess(es|ed)? ahead": "draft tokens",
}


@cache
def modules() -> dict[str, str]:
    return {
        str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def names_in(module: str) -> frozenset[str]:
    tokens = tokenize.generate_tokens(io.StringIO(modules()[module]).readline)
    return frozenset(token.string for token in tokens if token.type == tokenize.NAME)


@pytest.mark.parametrize("names", OLD_NAMES)
def test_no_old_name_is_back(names: str) -> None:
    """No identifier of the package is an old private synonym."""
    found = {
        (module, name) for module in modules() for name in names_in(module) & set(names.split())
    }

    assert set() == found, f"write {OLD_NAMES[names]}"


@pytest.mark.parametrize("words", OLD_WORDS)
def test_no_old_word_is_back(words: str) -> None:
    """No docstring, comment or message of the package uses an old private word."""
    word = re.compile(rf"\b({words})\b", re.IGNORECASE)
    found = [
        f"{module}:{number}: {line.strip()}"
        for module, text in modules().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if word.search(line)
    ]

    assert [] == found, f"write {OLD_WORDS[words]}"
