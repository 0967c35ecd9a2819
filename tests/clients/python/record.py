"""What a client's script tells the test that ran it: one line of JSON, when all went well."""

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
#: The same question where no template is applied, so that its marks are the caller's to write.
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
    """The error of type *kind* in which *ask* must end."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"nothing raised {kind.__name__}")


class Record:
    """
    What was tried with a client, and what it showed of each answer that was charged.

    Args:
        package: The client's name on PyPI.
        pointed: How it is pointed at stillhouse, as its user would write it.

    """

    def __init__(self, package: str, pointed: str) -> None:
        self._told = {"client": package, "version": version(package), "pointed": pointed}
        self._tried: list[str] = []
        self._answers: list[tuple[int | None, int | None, float | None]] = []

    def answered(
        self,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Note one answer, each figure None where the client does not show it."""
        self._answers.append((prompt_tokens, completion_tokens, cost_usd))

    def answered_with(self, usage: Any) -> None:
        """Note one answer from an object like OpenAI's usage with DeepInfra's cost."""
        self.answered(usage.prompt_tokens, usage.completion_tokens, usage.estimated_cost)

    def tried(self, what: str) -> None:
        """Note that *what* was tried and came back as it should."""
        self._tried.append(what)

    def tell(self) -> None:
        """Print the line."""
        told = {**self._told, "tried": self._tried, "answers": self._answers}
        sys.stdout.write(json.dumps(told) + "\n")
