"""The programs and configuration files in `examples/`, run against the running server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml

from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from tests.clients.client_runs import (
    FOLDER,
    INSTALLED,
    NODE,
    ROOT,
    calls_outside,
    plain_environment,
)
from tests.clients.test_clients import NOT_INSTALLED, rows_of_key

EXAMPLES = ROOT / "examples"
OURS = Path(sys.executable)
THEIRS = NODE.with_name("python")
MODELS = f"models: {DEMO_MODEL}, {DEMO_TOOLS_MODEL}"
ANSWER, STREAM = "answer: 17 + 25 = 42.", "stream: 17 + 25 = 42."
#: For each program: what runs it, what it prints, and how many of its requests are charged.
PROGRAMS = {
    "curl.sh": (Path("/usr/bin/env"), ['"content":"17 + 25 = 42."', "data: [DONE]"], 2),
    "openai_python.py": (OURS, [MODELS, ANSWER, STREAM, "usage: 80 tokens, 0.00004160 USD"], 2),
    "anthropic_python.py": (THEIRS, [ANSWER, STREAM, "usage: 16 in, 64 out"], 2),
    "langchain_python.py": (
        THEIRS,
        [ANSWER, STREAM, "tool call: get_weather {'city': 'Paris'}", "temperature is 18"],
        4,
    ),
    "openai_node.mjs": (NODE, [MODELS, ANSWER, STREAM, "usage: 80 tokens, 0.00004160 USD"], 2),
    "ai_sdk_node.mjs": (NODE, [ANSWER, STREAM, "usage: 80 tokens", 'object: {"is_even":'], 3),
}
#: Asks once, as Claude Code does: the same path, header and model.
CLAUDE = """#!/usr/bin/env bash
curl --silent --fail-with-body "$ANTHROPIC_BASE_URL/v1/messages?beta=true" \
  -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -H "anthropic-version: 2023-06-01" \
  -d "{\\"model\\": \\"$ANTHROPIC_DEFAULT_HAIKU_MODEL\\", \\"max_tokens\\": 64, \\"stream\\": true,
       \\"messages\\": [{\\"role\\": \\"user\\", \\"content\\": \\"$1\\"}]}"
"""


@pytest.fixture
def key(server, request):
    """A key of the test's own, named like the test."""
    with server.client() as http:
        return http.post("/v1/api-tokens", json={"name": request.node.name}).json()["token"]


def run(command, home, **variables):
    """Run an example in a plain environment, from an empty folder."""
    return subprocess.run(
        command,
        env=plain_environment(home) | variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(server, key, tmp_path, request, name):
    """An example prints what its reader expects, calls no other machine, and is charged."""
    interpreter, expected, num_charged = PROGRAMS[name]
    if interpreter in (THEIRS, NODE) and not INSTALLED.exists():
        pytest.skip(NOT_INSTALLED)
    shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(FOLDER / "node" / "node_modules")
    done = run(
        [interpreter, tmp_path / name], tmp_path, STILLHOUSE_URL=server.url, STILLHOUSE_API_KEY=key
    )

    assert 0 == done.returncode, done.stderr
    assert [] == [text for text in expected if text not in done.stdout], done.stdout
    assert [] == calls_outside(tmp_path)
    assert num_charged == len(rows_of_key(server.home, request.node.name))


@pytest.mark.parametrize("name", ["curl.sh", "claude_code.sh"])
def test_shell_script_without_a_key_says_so(tmp_path, name):
    """A missing key is reported before anything is called."""
    done = run([EXAMPLES / name], tmp_path)

    assert 1 == done.returncode
    assert "STILLHOUSE_API_KEY: set it to your key" in done.stderr


def test_claude_code(server, key, tmp_path):
    """The variables that Claude Code is started with lead to the Messages API."""
    (tmp_path / "claude").write_text(CLAUDE)
    (tmp_path / "claude").chmod(0o755)
    path = f"{tmp_path}:{plain_environment(tmp_path)['PATH']}"
    done = run(
        [EXAMPLES / "claude_code.sh", "Hello!"],
        tmp_path,
        PATH=path,
        STILLHOUSE_URL=server.url,
        STILLHOUSE_API_KEY=key,
        STILLHOUSE_MODEL=DEMO_TOOLS_MODEL,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "event: message_stop" in done.stdout


def test_codex(server, key):
    """Codex's configuration leads to the Responses API, which takes a body like Codex's."""
    settings = tomllib.loads((EXAMPLES / "codex" / "config.toml").read_text())
    provider = settings["model_providers"][settings["model_provider"]]
    assert ("STILLHOUSE_API_KEY", "responses") == (provider["env_key"], provider["wire_api"])
    assert ("disabled", False) == (settings["web_search"], settings["features"]["multi_agent"])
    tool = {"type": "function", "name": "exec_command", "parameters": {"type": "object"}}
    body = {
        "model": DEMO_TOOLS_MODEL,
        "stream": True,
        "input": [
            {"type": "message", "role": "developer", "content": text_parts("Be short.")},
            {"type": "message", "role": "user", "content": text_parts("Hello!")},
        ],
        "tools": [{**tool, "description": "Run a command.", "strict": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "01a22b32",
        "client_metadata": {"session_id": "01a22b32"},
    }
    url = at_server(server, provider["base_url"])
    answer = httpx.post(f"{url}/responses", json=body, headers=bearer(key), timeout=60)

    assert 200 == answer.status_code, answer.text
    assert "event: response.completed" in answer.text


def test_open_webui(server, key):
    """Open WebUI's URL and key lead to the list of models and to chat completions."""
    text = (EXAMPLES / "open_webui" / "compose.yaml").read_text()
    text = text.replace("${STILLHOUSE_API_KEY:?set it to your key}", key)
    text = re.sub(r"\$\{STILLHOUSE_URL:-(.*?)\}", r"\1", text)
    variables = yaml.safe_load(text)["services"]["open-webui"]["environment"]
    url, headers = (
        at_server(server, variables["OPENAI_API_BASE_URL"]),
        bearer(variables["OPENAI_API_KEY"]),
    )
    models = httpx.get(f"{url}/models", headers=headers).json()
    body = {"model": models["data"][0]["id"], "messages": [{"role": "user", "content": "Hello!"}]}
    answer = httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=60)

    assert 200 == answer.status_code, answer.text


def test_readme_lists_every_example():
    """The table names each file once, and the test that runs it."""
    table = (EXAMPLES / "README.md").read_text()
    files = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    row = r"^\| [^|]+ \| \[`(.+?)`\]\(\1\) \|.+\| .*(?:run by|not run) .+\|$"
    listed = re.findall(row, table, re.MULTILINE)

    assert sorted(files) == sorted(listed)
    assert set(re.findall(r"`(test_\w+)`", table)) <= set(globals())


def text_parts(text):
    return [{"type": "input_text", "text": text}]


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def at_server(server, url):
    """A URL of a file, whose address must be that of `stillhouse serve`, at the test's server."""
    address = "http://127.0.0.1:8000"
    assert url.startswith(f"{address}/")
    return server.url + url.removeprefix(address)
