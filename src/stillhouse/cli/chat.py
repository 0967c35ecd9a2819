"""``stillhouse chat``: talk to a running server from the terminal, and see what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from stillhouse.app.config import home_directory
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.cli.options import HomeOption
from stillhouse.errors import ConfigError, ServingError

TOKEN_VARIABLE = "DEEPINFRA_TOKEN"  # noqa: S105  (a variable's name, not a secret)
_CONNECT_TIMEOUT_S = 5.0


def chat(  # noqa: PLR0913  (one argument per option)
    message: Annotated[str | None, typer.Argument(help="One question; without it, a chat.")] = None,
    model: Annotated[str, typer.Option(help="Model id.")] = DEMO_MODEL,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    url: Annotated[str, typer.Option(help="Where stillhouse serves.")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(envvar=TOKEN_VARIABLE, help="API key.")] = None,
    home: HomeOption = None,
) -> None:
    """Chat with a running server: reasoning is dimmed, the cost stands at the end."""
    console = Console()
    history = [{"role": "system", "content": system}] if system else []
    headers = {"Authorization": f"Bearer {key or _key_in(home_directory(home))}"}
    timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout) as client:
        for question in [message] if message else _questions(console):
            history.append({"role": "user", "content": question})
            answer = _answer(client, console, {"model": model, "messages": history})
            history.append({"role": "assistant", "content": answer})


def _key_in(home: Path) -> str:
    path = home / "key"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"no API key: give --key, set {TOKEN_VARIABLE}, or start 'stillhouse serve' once, "
            f"which writes {path} ({error.strerror})"
        ) from error


def _questions(console: Console) -> Iterator[str]:
    while True:
        try:
            if question := console.input("[bold green]you ›[/bold green] ").strip():
                yield question
        except (EOFError, KeyboardInterrupt):
            console.print()
            return


def _answer(client: httpx.Client, console: Console, body: dict[str, Any]) -> str:
    content: str = ""
    has_reasoned = False
    for chunk in _chunks(client, {**body, "stream": True}):
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        if reasoning := delta.get("reasoning_content"):
            console.print(reasoning, end="", style="dim", markup=False, highlight=False)
            has_reasoned = True
        if text := delta.get("content"):
            separator = "\n\n" if has_reasoned and not content else ""
            console.print(separator + text, end="", markup=False, highlight=False)
            content += text
        if usage := chunk.get("usage"):
            console.print(f"\n{_cost_line(usage)}", style="cyan", highlight=False)
    return content


def _chunks(client: httpx.Client, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    path = "/v1/openai/chat/completions"
    try:
        with client.stream("POST", path, json=body) as response:
            if response.is_error:
                raise ServingError(_message_in(response.read()))
            for line in response.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield _checked(json.loads(line.removeprefix("data: ")))
    except httpx.TransportError as error:
        raise ServingError(
            f"{client.base_url} does not answer ({error}); start it with 'stillhouse serve'"
        ) from error


def _checked(chunk: dict[str, Any]) -> dict[str, Any]:
    if "error" in chunk:
        raise ServingError(chunk["error"]["message"])
    return chunk


def _message_in(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def _cost_line(usage: dict[str, Any]) -> str:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    counts = f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
    known = f" ({cached} cached)" if cached else ""
    cost = usage["estimated_cost"]
    if cost is None:
        return f"{counts}{known} · cost to follow: the server's ledger is down"
    return f"{counts}{known} · ${cost:.10f}".rstrip("0")
