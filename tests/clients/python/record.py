"""Records what a client's script did, and prints it as one line of JSON for the test."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

URL = os.environ["SERVER_URL"]
KEY = os.environ["API_KEY"]
MODEL = os.environ["MODEL"]
TOOLS_MODEL = os.environ["TOOLS_MODEL"]
SUM = "What is 17 + 25?"
MESSAGES: list[Any] = [{"role": "user", "content": SUM}]
ANSWER = "17 + 25 = 42."
#: The same question for an endpoint without a chat template, with the template's tokens.
RAW = f"<｜begin▁of▁sentence｜><｜User｜>{SUM}<｜Assistant｜><think>\n"
WEATHER: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GET_WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": CITY,
    },
}
PARIS = '{"temperature": 18, "condition": "sunny"}'
VERDICT = {
    "type": "object",
    "properties": {"is_even": {"enum": ["yes", "no"]}},
    "required": ["is_even"],
    "additionalProperties": False,
}

Error = TypeVar("Error", bound=Exception)


def error_of(kind: type[Error], ask: Callable[[], object]) -> Error:
    """Return the error of type *kind* that *ask* must raise."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"nothing raised {kind.__name__}")


class Record:
    """
    The features exercised with a client, and the figures it showed of each charged answer.

    Args:
        package: The client's name on PyPI.
        pointed: The code that points it at stillhouse.

    """

    def __init__(self, package: str, pointed: str) -> None:
        self._report = {"client": package, "version": version(package), "pointed": pointed}
        self._tried: list[str] = []
        self._answers: list[tuple[int | None, int | None, float | None]] = []

    def answered(
        self,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Record one answer, with None for figures that the client does not show."""
        self._answers.append((prompt_tokens, completion_tokens, cost_usd))

    def answered_with(self, usage: Any) -> None:
        """Record one answer from an object like OpenAI's usage with DeepInfra's cost."""
        self.answered(usage.prompt_tokens, usage.completion_tokens, usage.estimated_cost)

    def tried(self, what: str) -> None:
        """Record that the feature *what* works."""
        self._tried.append(what)

    def print(self) -> None:
        """Print the record as one line of JSON."""
        report = {**self._report, "tried": self._tried, "answers": self._answers}
        sys.stdout.write(json.dumps(report) + "\n")
