"""Defines the scenarios: an attack, the server's settings, and the victim."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.abuse.attacks import CRASH_SEED
from stillhouse.catalogue.demo_models import DEMO_MODEL

FAKE = """
[models."{model}"]
[engine]
kind = "fake"
[engine.fake]
slots = {slots}
first_token_s = {first_token_s}
token_interval_s = 0.01
faults = [{{ kind = "crash", at_token = 3, seed = {crash_seed} }}]
"""
DEMO = '[models."{model}"]\n'


@dataclass(frozen=True)
class Scenario:
    """
    An attack and its victim.

    Args:
        has_key: Whether the attacker is a customer.
        slots: The fake engine's slots; None for the demo model.
        share: The victim's fair share of all tokens, where both saturate the server.
        may_fail: The number of the victim's requests that may fail: those running when the engine
            crashes.
        first_token_s: The fake engine's time to first token. A running request keeps its slot, so
            a request waits for the next free one; the figures show fairness only if that wait is
            small beside this.
        is_about_answers: Only unanswered requests miss a target, as waiting is expected.

    """

    attack: str
    has_key: bool = True
    slots: int | None = 64
    seconds: float = 4.0
    concurrency: int = 4
    max_tokens: int = 8
    num_files: int = 4096
    has_new_schema: bool = False
    name: str = ""
    share: float | None = None
    may_fail: int = 0
    first_token_s: float = 0.1
    is_about_answers: bool = False

    @property
    def title(self) -> str:
        """Return the name in the tables."""
        return self.name or self.attack

    @property
    def config(self) -> str:
        """Return the server's configuration."""
        text = DEMO if self.slots is None else FAKE
        return text.format(
            model=DEMO_MODEL,
            slots=self.slots,
            first_token_s=self.first_token_s,
            crash_seed=CRASH_SEED,
        )


SCENARIOS = [
    Scenario("header_lines", has_key=False),
    Scenario("header_value", has_key=False),
    Scenario("pipelined", has_key=False),
    Scenario("silent_sockets", has_key=False, seconds=6, num_files=1024),
    Scenario("forged_tokens", has_key=False),
    Scenario("self_signed_tokens"),
    Scenario("many_keys", slots=32, first_token_s=0.5, seconds=6),
    Scenario("many_keys", name="many_keys_share", slots=8, concurrency=40, seconds=6, share=0.5),
    Scenario("slow_grammars", slots=None, seconds=8),
    Scenario("bad_schemas", slots=None, seconds=10, concurrency=1, has_new_schema=True),
    Scenario("large_bodies", slots=64),
    Scenario("worker_crash", slots=4, concurrency=40, seconds=3, may_fail=4, is_about_answers=True),
    Scenario("unread_streams"),
]
