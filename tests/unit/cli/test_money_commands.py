"""The commands about accounts, keys and money, on a ledger without a server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stillhouse.app.services import open_services
from stillhouse.billing.archive.archive import archive_requests
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.statements.month import Month
from stillhouse.cli.main import app
from stillhouse.clock import FrozenClock
from stillhouse.errors import InvalidRequestError, KeyNotFoundError, StillhouseError
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage
from tests.tariffs import usd_tariff

MODEL = "a/model"
TARIFF = usd_tariff("0.59", "0.79", cached_input_usd="0.1")
DEARER = usd_tariff("1", "2")
NOVEMBER_MS = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1000
DECEMBER_MS = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1000
COST_PICOUSD = 49 * 590_000 + 100 * 100_000 + 338 * 790_000


@dataclass
class Terminal:
    """Runs commands on a home of its own."""

    home: Path

    def run(self, *arguments, exit_code=0):
        env = {"STILLHOUSE_HOME": str(self.home), "COLUMNS": "250", "NO_COLOR": "1"}
        result = CliRunner().invoke(app, arguments, env=env)
        if isinstance(result.exception, StillhouseError):
            raise result.exception
        assert exit_code == result.exit_code, result.output
        return result.stdout

    def json(self, *arguments, exit_code=0):
        return json.loads(self.run(*arguments, "--json", exit_code=exit_code))


@pytest.fixture
def terminal(tmp_path):
    return Terminal(tmp_path / "state")


async def _use(home, moments_ms, *, account, key, tariff, tier):
    clock = FrozenClock()
    async with open_services(home, clock=clock) as services:
        account_id = (await services.accounts.find_account(account)).id
        key_id = (await services.accounts.keys.find_live(key, account_id=account_id)).id
        price = (await services.ledger.prices.publish({MODEL: tariff}))[MODEL][tier]
        for at_ms in moments_ms:
            clock.advance((at_ms - clock.now_ms()) / 1000)
            hold = await services.ledger.hold(
                request_id=f"chatcmpl-{account}-{price.version}-{at_ms}",
                account_id=account_id,
                key_id=key_id,
                price=price,
                prompt_tokens=149,
                max_tokens=1000,
            )
            usage = TokenUsage(prompt_tokens=149, cached_tokens=100, completion_tokens=338)
            await services.ledger.settle(hold, usage=usage, outcome=Outcome.STOP)


def use(terminal, account, *moments_ms, tariff=TARIFF, tier=ServiceTier.DEFAULT, key="main"):
    """Settle one request at each of the moments."""
    asyncio.run(_use(terminal.home, moments_ms, account=account, key=key, tariff=tariff, tier=tier))


@pytest.fixture
def alice(terminal):
    terminal.run("accounts", "create", "alice")
    terminal.run("keys", "create", "main", "--account", "alice")
    return terminal


def test_new_key_alone_is_on_stdout(terminal):
    """What is printed can be put into a variable; the account is made on a new machine."""
    printed = terminal.run("keys", "create", "laptop")
    assert printed.startswith("sh_")
    assert 37 == len(printed)
    assert [("default", "laptop", printed[:8], "active")] == [
        (key["account"], key["name"], key["prefix"], key["state"])
        for key in terminal.json("keys", "list")
    ]


def test_key_with_everything(alice):
    """A key's limit, period, models and end stand in the list."""
    alice.run(
        *("keys", "create", "narrow", "--account", "alice", "--spending-limit-usd", "0.10"),
        *("--monthly", "--models", "b/2,a/1", "--expires", "30d"),
    )
    key = alice.json("keys", "list", "--account", "alice")[1]
    assert (["a/1", "b/2"], 10**11, "month", "active") == (
        key["allowed_models"],
        key["limit_picousd"],
        key["limit_period"],
        key["state"],
    )
    # The end is counted from a moment before the key is made.
    assert -30_000 < key["expires_at_ms"] - key["created_at_ms"] - 30 * 86_400_000 <= 0
    assert "$0.1 a month" in alice.run("keys", "list")


def test_limit_is_changed_and_taken_away(alice):
    """`keys limit` sets a limit, changes its period, and takes it away."""
    seen = []
    for change in (["5"], ["0.5", "--monthly"], ["--none"]):
        alice.run("keys", "limit", "main", *change)
        key = alice.json("keys", "list")[0]
        seen.append((key["limit_picousd"], key["limit_period"]))
    assert [(5 * 10**12, "total"), (5 * 10**11, "month"), (None, None)] == seen


@pytest.mark.parametrize("arguments", [[], ["5", "--none"], ["five"], ["-5"]])
def test_limit_that_is_none(alice, arguments):
    """A limit must be one amount, or none on purpose."""
    alice.run("keys", "limit", "main", *arguments, exit_code=2)


def test_revoked_key_is_shown_as_such(alice):
    """A revoked key stays in the list, and its name is free again."""
    alice.run("keys", "revoke", "main")
    alice.run("keys", "create", "main", "--account", "alice")
    assert ["revoked", "active"] == [key["state"] for key in alice.json("keys", "list")]


def test_unknown_names_are_told(alice):
    """An account or key that is not there is refused with those that are."""
    with pytest.raises(InvalidRequestError, match="there are: alice"):
        alice.run("keys", "create", "x", "--account", "alise")
    with pytest.raises(InvalidRequestError, match="there are: alice"):
        alice.run("usage", "--account", "bob")
    with pytest.raises(KeyNotFoundError, match=r"there are: main \(id 1\)"):
        alice.run("keys", "limit", "mian", "5")
    with pytest.raises(InvalidRequestError, match="exists already"):
        alice.run("accounts", "create", "alice")


def test_prepaid_account(terminal):
    """A prepaid account has what was topped up, less what it has spent; another has no end."""
    terminal.run("accounts", "create", "bob", "--prepaid")
    terminal.run("accounts", "create", "alice")
    terminal.run("keys", "create", "main", "--account", "bob")
    terminal.run("accounts", "top-up", "bob", "10.5", "--note", "transfer")
    use(terminal, "bob", NOVEMBER_MS)
    bob, alice = terminal.json("accounts", "list")
    assert (True, 10_500_000_000_000, COST_PICOUSD, 0) == (
        bob["is_prepaid"],
        bob["limit_picousd"],
        bob["spent_picousd"],
        bob["held_picousd"],
    )
    assert (False, None) == (alice["is_prepaid"], alice["limit_picousd"])
    assert "$10.49969407" in terminal.run("accounts", "list")
    with pytest.raises(InvalidRequestError, match="not prepaid"):
        terminal.run("accounts", "top-up", "alice", "1")


def test_usage_of_a_span(alice):
    """`--from` is within and `--to` is not, so months that adjoin count everything once."""
    use(alice, "alice", NOVEMBER_MS - 1, NOVEMBER_MS, DECEMBER_MS - 1, DECEMBER_MS)
    spans = (
        ["--to", "2026-11"],
        ["--from", "2026-11", "--to", "2026-12-01"],
        ["--from", "2026-12"],
    )
    counted = [
        [(line["heading"], line["num_requests"]) for line in alice.json("usage", *span)]
        for span in spans
    ]
    assert [[("main", 1)], [("main", 2)], [("main", 1)]] == counted
    by_day = alice.json("usage", "--by", "day", "--account", "alice")
    assert ["2026-10-31", "2026-11-01", "2026-11-30", "2026-12-01"] == [
        line["heading"] for line in by_day
    ]


def test_statement_is_a_months_invoice(alice):
    """A line per account, model, price and tier, whose amounts are exact and sum to the total."""
    alice.run("accounts", "create", "bob")
    alice.run("keys", "create", "main", "--account", "bob")
    use(alice, "alice", NOVEMBER_MS - 1, NOVEMBER_MS, DECEMBER_MS - 1, DECEMBER_MS)
    use(alice, "alice", NOVEMBER_MS + 5, tariff=DEARER)
    use(alice, "alice", NOVEMBER_MS + 6, tier=ServiceTier.PRIORITY)
    use(alice, "bob", NOVEMBER_MS + 7, tariff=DEARER)
    invoice = alice.json("statement", "2026-11")
    dearer_picousd = 149 * 10**6 + 338 * 2 * 10**6
    assert [
        ("alice", "default", 2, 2 * COST_PICOUSD),
        ("alice", "default", 1, dearer_picousd),
        ("alice", "priority", 1, COST_PICOUSD * 3 // 2),
        ("bob", "default", 1, dearer_picousd),
    ] == [
        (line["account"], line["service_tier"], line["num_requests"], line["cost_picousd"])
        for line in invoice["lines"]
    ]
    first = invoice["lines"][0]
    assert (98, 200, 676) == tuple(
        first[f"{kind}_tokens"] for kind in ("input", "cached_input", "output")
    )
    assert ("0.00005782", "0.00002", "0.00053404", "0", "0.00061186") == tuple(
        first[f"{what}_usd"] for what in ("input", "cached_input", "output", "waived", "cost")
    )
    assert invoice["cost_picousd"] == sum(line["cost_picousd"] for line in invoice["lines"])
    assert (NOVEMBER_MS, DECEMBER_MS) == (invoice["from_ms"], invoice["to_ms"])
    assert ["bob"] == [
        line["account"] for line in alice.json("statement", "2026-11", "--account", "bob")["lines"]
    ]


def test_statement_as_csv_and_as_a_table(alice):
    """CSV has the lines that JSON has; the table ends with the exact total."""
    use(alice, "alice", NOVEMBER_MS)
    lines = alice.json("statement", "2026-11")["lines"]
    rows = list(csv.DictReader(io.StringIO(alice.run("statement", "2026-11", "--csv"))))
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows
    assert "$0.00030593" in alice.run("statement", "2026-11").splitlines()[-2]
    assert "" == alice.run("statement", "2026-10", "--csv")
    alice.run("statement", "2026-11", "--csv", "--json", exit_code=2)


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "11-2026", "now"])
def test_month_that_is_none(terminal, month):
    """A month is written as 2026-11."""
    with pytest.raises(InvalidRequestError, match="write it as 2026-11"):
        terminal.run("statement", month)


def test_right_ledger_verifies(alice):
    """A ledger that only the ledger has written exits 0 and names nothing."""
    use(alice, "alice", NOVEMBER_MS)
    assert "" == alice.run("ledger", "verify")
    assert [] == alice.json("ledger", "verify")["differences"]


async def _tamper(home, statement):
    async with open_services(home) as services:
        await services.database.write(lambda connection: connection.exec_driver_sql(statement))


def test_wrong_ledger_is_named_and_rebuilt(alice):
    """A balance that was changed by hand is named with exit 1, until it is summed anew."""
    use(alice, "alice", NOVEMBER_MS)
    asyncio.run(_tamper(alice.home, "UPDATE balance SET spent_picousd = 7"))
    printed = alice.run("ledger", "verify", exit_code=1)
    assert printed.startswith("balance of account 3: is ")
    (difference,) = alice.json("ledger", "verify", exit_code=1)["differences"]
    assert "balance of account 3" == difference["subject"]
    alice.run("ledger", "rebuild")
    alice.run("ledger", "verify")


def test_old_months_are_archived(alice, tmp_path):
    """`ledger archive` moves them into a file of its own, and the statement stays as it was."""
    use(alice, "alice", NOVEMBER_MS, NOVEMBER_MS + 1, DECEMBER_MS)
    invoice = alice.json("statement", "2026-11")
    with pytest.raises(InvalidRequestError, match="is not over"):
        alice.run("ledger", "archive", "--before", "9998-01")
    file = tmp_path / "old.jsonl.gz"
    alice.run("ledger", "archive", "--before", "2026-11", "--to", str(file))
    assert not file.exists()
    asyncio.run(_archive(alice.home, file))
    assert invoice == alice.json("statement", "2026-11")
    covered = alice.json("ledger", "verify")["covered"]
    assert (1, 2) == (covered["num_requests"], covered["num_archived"])


async def _archive(home, file):
    async with open_services(home, clock=FrozenClock(DECEMBER_MS)) as services:
        await archive_requests(services.database, services.clock, before=Month(2026, 12), path=file)


def made(request_id, number):
    return [{"request_id": request_id, "index": index, "token": 7} for index in range(number)]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (made("chatcmpl-alice-1-{at}", 338), []),
        (
            made("chatcmpl-alice-1-{at}", 337),
            ["request {id}: has 338 completion tokens, but the engine made 337"],
        ),
        (
            made("chatcmpl-alice-1-{at}", 339),
            ["request {id}: has 338 completion tokens, but the engine made 339"],
        ),
        ([], ["request {id}: has 338 completion tokens, but the engine made 0"]),
        (
            made("chatcmpl-alice-1-{at}", 338) + made("other", 2),
            ["request other: is not known, but an engine made 2 tokens"],
        ),
    ],
)
def test_ledger_beside_its_witness(alice, tmp_path, facts, expected):
    """What was charged is exactly what the engine itself wrote down that it made."""
    use(alice, "alice", NOVEMBER_MS)
    log = tmp_path / "witness.jsonl"
    lines = [json.dumps(fact).replace("{at}", str(NOVEMBER_MS)) for fact in facts]
    log.write_text("\n".join(lines))
    printed = alice.run("ledger", "verify", "--witness", str(log), exit_code=bool(expected))
    known = f"chatcmpl-alice-1-{NOVEMBER_MS}"
    assert [line.format(id=known) for line in expected] == printed.splitlines()


def test_witness_that_is_none(alice, tmp_path):
    """A file that is missing, or holds something else, is named."""
    (tmp_path / "diary").write_text('{"dear": "diary"}')
    for name in ("diary", "missing"):
        with pytest.raises(StillhouseError, match=name):
            alice.run("ledger", "verify", "--witness", str(tmp_path / name))
