"""The server as whoever runs it sees it: start, probes, ledger, commands, hang-ups, restarts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from pathlib import Path

import httpx

from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from tests.e2e.conftest import assert_ledger_is_right
from tests.e2e.running_server import run_server

CHAT = "/v1/openai/chat/completions"
HELLO = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello!"}]}


def requests_by_key(server):
    done = server.command("usage", "--by", "key", "--json")
    return {line["heading"]: line for line in json.loads(done.stdout)}


def test_first_start_shows_the_key_once(server):
    """The banner shows the new key, which is kept in a file that only its owner reads."""
    assert f"export DEEPINFRA_TOKEN={server.key}" in server.banner
    assert "curl " in server.banner
    assert "deepseek-ai/DeepSeek-R1-Distill-Llama-70B" in server.banner
    assert 0o600 == stat.S_IMODE((server.home / "key").stat().st_mode)


def test_probes(server):
    """Alive, ready by a round trip through the engine, and measured: all without a key."""
    assert 200 == httpx.get(server.url + "/livez").status_code
    ready = httpx.get(server.url + "/readyz")
    checks = dict.fromkeys((DEMO_MODEL, DEMO_TOOLS_MODEL, "store"), "ok")
    assert (200, checks) == (ready.status_code, ready.json())
    assert "stillhouse_requests_total" in httpx.get(server.url + "/metrics").text


def test_every_answer_has_its_row(server):
    """The ledger has the usage and cost that the client was shown, to the pico-dollar."""
    key = server.command("keys", "create", "row").stdout.strip()
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as client:
        usages = [client.post(CHAT, json=HELLO).json()["usage"] for _ in range(3)]

    line = requests_by_key(server)["row"]
    assert 3 == line["num_requests"]
    assert sum(u["prompt_tokens"] for u in usages) == line["prompt_tokens"]
    assert sum(u["completion_tokens"] for u in usages) == line["completion_tokens"]
    assert sum(round(u["estimated_cost"] * 10**12) for u in usages) == line["cost_picousd"]


def test_keys_made_and_revoked_beside_a_running_server(server):
    """`keys create` prints the key alone; revoked, it is refused within a second or so."""
    made = server.command("keys", "create", "short-lived")
    key = made.stdout.strip()
    assert (f"{key}\n", True) == (made.stdout, key.startswith("sh_"))
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as client:
        assert 200 == client.post(CHAT, json=HELLO).status_code
        assert 0 == server.command("keys", "revoke", "short-lived").returncode
        # The command itself took longer than the second that a key may be remembered.
        statuses = [client.post(CHAT, json=HELLO).status_code for _ in range(50)]

    assert 401 == statuses[-1]
    assert "short-lived" in server.command("keys", "list").stdout


def test_client_that_hangs_up_is_charged_what_was_generated(server):
    """A stream cut by its client stops, and its row holds what was made until then."""
    key = server.command("keys", "create", "hang-up").stdout.strip()
    body = HELLO | {"stream": True, "temperature": 2, "max_tokens": 1500}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("POST", server.url + CHAT, json=body, headers=headers) as response:
        lines = response.iter_lines()
        for _ in range(6):
            next(lines)
    wait_until(lambda: 0 == outstanding(server))

    line = requests_by_key(server)["hang-up"]
    assert 1 == line["num_requests"]
    assert 0 < line["completion_tokens"] < 1500
    assert line["cost_picousd"] == (
        200_000 * line["prompt_tokens"] + 600_000 * line["completion_tokens"]
    )


def outstanding(server) -> float:
    for line in httpx.get(server.url + "/metrics").text.splitlines():
        if line.startswith("stillhouse_outstanding_requests{"):
            return float(line.split()[-1])
    return 0


def wait_until(condition, *, timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"


def test_restart_keeps_keys_and_ledger(tmp_path):
    """A second start knows the first one's key and rows, and does not show the key again."""
    home = tmp_path / "state"
    with run_server(home) as first, first.client() as client:
        assert 200 == client.post(CHAT, json=HELLO).status_code
    with run_server(home) as second, second.client() as client:
        assert second.key not in second.banner
        assert 200 == client.post(CHAT, json=HELLO).status_code
        assert 2 == requests_by_key(second)["first-key"]["num_requests"]


def test_killed_server_leaves_a_ledger_that_can_be_made_right(tmp_path):
    """After kill -9 in mid-stream, the next start resolves what was held."""
    home = tmp_path / "state"
    body = HELLO | {"stream": True, "temperature": 2, "max_tokens": 1500}
    with (
        run_server(home) as first,
        first.client() as client,
        client.stream("POST", CHAT, json=body) as response,
    ):
        next(response.iter_lines())
        first.process.kill()
        first.process.wait()
    with run_server(home):
        pass
    asyncio.run(assert_ledger_is_right(home))


def test_killed_engine_is_started_again(tmp_path):
    """An engine that dies is replaced without a restart; what is cut off is in tests/faults."""
    with run_server(tmp_path / "state") as server, server.client() as client:
        for child in children(server.process.pid):
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: httpx.get(server.url + "/readyz").status_code == 503)
        wait_until(lambda: httpx.get(server.url + "/readyz").status_code == 200)

        assert 200 == client.post(CHAT, json=HELLO).status_code


def children(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").iterdir()
        for child in (tasks / "children").read_text().split()
    ]


def test_second_server_on_the_same_home_is_refused(server):
    """Two servers never share a ledger file: the second says who holds it."""
    second = server.command("serve", "--port", "0")

    assert 1 == second.returncode
    assert str(server.process.pid) in second.stderr


def test_port_taken(server, tmp_path):
    """A port in use is named, with what to do."""
    port = server.url.rpartition(":")[2]
    second = server.command("serve", "--port", port)

    assert 1 == second.returncode
    assert f"127.0.0.1:{port}" in second.stderr
    assert "--port" in second.stderr


def test_configuration_turns_the_fallback_off(tmp_path):
    """With any configuration, the seed's model is no longer answered by the demo."""
    config = tmp_path / "stillhouse.toml"
    config.write_text(f'[models."{DEMO_MODEL}"]\n')
    with run_server(tmp_path / "state", "--config", str(config)) as server, server.client() as c:
        fallback = HELLO | {"model": "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"}
        assert 404 == c.post(CHAT, json=fallback).status_code
        assert 200 == c.post(CHAT, json=HELLO).status_code


def test_wrong_configuration_names_file_and_key(server, tmp_path):
    """A key that does not exist is named with its file and what does exist."""
    config = tmp_path / "stillhouse.toml"
    config.write_text("[server]\nprot = 8001\n")
    done = server.command("serve", "--config", str(config))

    assert 1 == done.returncode
    assert str(config) in done.stderr
    assert "server.prot" in done.stderr
    assert "port" in done.stderr


def test_models_command(server):
    """`models` shows the catalogue and what is served."""
    rows = json.loads(server.command("models", "--json").stdout)

    assert [DEMO_MODEL, DEMO_TOOLS_MODEL] == [row["id"] for row in rows if row["served"]]
    assert {"deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "deepseek-ai/DeepSeek-V3.1"} <= {
        row["id"] for row in rows
    }


def test_chat_command(server):
    """`chat` prints the answer and its cost."""
    done = server.command("chat", "Hello!", "--url", server.url)

    assert "hello" in done.stdout.lower()
    assert "· $0.0000" in done.stdout


def test_doctor_command(server):
    """`doctor` says what this machine can run; the port that is taken is what is wrong."""
    done = server.command("doctor")

    assert "model stillhouse/demo-r1" in done.stdout
    assert "cores" in done.stdout
