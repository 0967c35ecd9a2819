"""Simon Willison's command `llm`, as its documentation runs it."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import json
import os
from pathlib import Path

from click.testing import CliRunner
from llm.cli import cli
from record import ANSWER, KEY, MODEL, PARIS, SUM, TOOLS_MODEL, URL, VERDICT, WEATHER, Record

record = Record("llm", "llm openai endpoint http://HOST/v1 --key KEY -m MODEL PROMPT")
ENDPOINT = ["openai", "endpoint", f"{URL}/v1", "--key"]
CONFIGURATION = f"""
- model_id: mine
  model_name: {MODEL}
  api_base: {URL}/v1
  api_key_name: mine
- model_id: unknown
  model_name: nobody/nothing
  api_base: {URL}/v1
  api_key_name: mine
"""


def llm(*arguments):
    """Run the command in this process: each start of its own would take seconds."""
    return CliRunner().invoke(cli, arguments)


def ask_without_configuration():
    """A prompt to an endpoint that is not configured."""
    assert f"{ANSWER}\n" == llm(*ENDPOINT, KEY, "-m", MODEL, SUM).stdout
    record.answered()
    record.tried("without configuration")


def list_models():
    """What the endpoint offers."""
    assert MODEL in llm(*ENDPOINT, KEY, "--models").stdout.split()
    record.tried("models")


def ask_with_configuration():
    """A model in extra-openai-models.yaml, in pieces and whole, and what `llm` logged of it."""
    folder = Path(os.environ["LLM_USER_PATH"])
    (folder / "extra-openai-models.yaml").write_text(CONFIGURATION)
    llm("keys", "set", "mine", "--value", KEY)
    for tried, option in (("stream", "--log"), ("whole", "--no-stream")):
        assert f"{ANSWER}\n" == llm("-m", "mine", option, SUM).stdout
        record.tried(tried)
    for row in json.loads(llm("logs", "--json").stdout):
        record.answered(row["input_tokens"], row["output_tokens"])


def ask_for_json():
    """An answer that must fit a schema."""
    done = llm(*ENDPOINT, KEY, "-m", MODEL, "--schema", json.dumps(VERDICT), SUM)
    assert json.loads(done.stdout)["is_even"] in ("yes", "no")
    record.answered()
    record.tried("JSON schema")


def call_tools():
    """A function of one's own is called, and its result answered to."""
    functions = f'''
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return {PARIS!r} if city == "Paris" else "unknown"
'''
    done = llm(*ENDPOINT, KEY, "-m", TOOLS_MODEL, "--functions", functions, WEATHER[0]["content"])
    assert "18" in done.stdout
    record.answered()
    record.answered()
    record.tried("tools")


def respond():
    """The Responses API."""
    assert f"{ANSWER}\n" == llm(*ENDPOINT, KEY, "--responses", "-m", MODEL, SUM).stdout
    record.answered()
    record.tried("responses")


def be_refused():
    """A refusal ends the command with the server's own words."""
    wrong = llm(*ENDPOINT, "sh_wrong", "-m", MODEL, SUM)
    assert (1, True) == (wrong.exit_code, "Error code: 401" in wrong.stderr)
    record.tried("wrong key")
    unknown = llm("-m", "unknown", SUM)
    assert (1, True) == (unknown.exit_code, "nobody/nothing" in unknown.stderr)
    record.tried("unknown model")


ask_without_configuration()
list_models()
ask_with_configuration()
ask_for_json()
respond()
call_tools()
be_refused()
record.print()
