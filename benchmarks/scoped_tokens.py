"""
Measures authentication: keys and scoped tokens that are new, cached, forged or malformed.

    .venv/bin/python -m benchmarks.scoped_tokens [--requests 1000]

The figures are the processor time of `Accounts.authenticate` alone, in one process: the best
hundred in a row, as other work on the machine only adds to it. `benchmarks/gateway.py` measures
HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import jwt

from stillhouse.accounts.accounts import Accounts, MintedKey
from stillhouse.clock import SystemClock
from stillhouse.errors import StillhouseError
from stillhouse.store.database import Database

_BATCH = 100
_FORGER = "sh_" + "y" * 33
_END_S = 2**32


def main() -> None:
    """Measure, and print one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind")
    asyncio.run(_measure(parser.parse_args().requests))


async def _measure(num_requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Database.open(home / "ledger.db", is_server=True) as database:
            accounts = await Accounts.open(database, SystemClock(), home)
            account = await accounts.create_account("benchmark")
            key = await accounts.keys.mint(account.id, "first-key")
            for kind, secrets in _kinds(key, num_requests).items():
                with suppress(StillhouseError):
                    await accounts.authenticate(secrets[0])  # its key is looked up before it counts
                print(f"{kind:24} {await _best_us(accounts, secrets):6.1f} µs")
            await accounts.close()


def _kinds(key: MintedKey, number: int) -> dict[str, list[str]]:
    real, models = key.secret, ["m" * 60] * 18
    return {
        "known key": [real] * number,
        "known token": [_token(key, real, jti="0")] * number,
        "new token, 0.2 KB": [_token(key, real, jti=str(n)) for n in range(number)],
        "new token, 1.8 KB": [_token(key, real, jti=str(n), models=models) for n in range(number)],
        "forged token, 0.2 KB": [_token(key, _FORGER, jti=str(n)) for n in range(number)],
        "forged token, 1.8 KB": [
            _token(key, _FORGER, jti=str(n), models=models) for n in range(number)
        ],
        "expired token": [_token(key, real, jti=str(n), exp=1) for n in range(number)],
        "malformed key": ["sh_none"] * number,
    }


def _token(key: MintedKey, secret: str, **claims: object) -> str:
    uid = f"sh:{key.key.account_id}"
    kid = f"{uid}:{base64.b64encode(key.key.name.encode()).decode()}"
    payload = {"sub": uid, "exp": _END_S, **claims}
    return "jwt:" + jwt.encode(payload, secret, "HS256", headers={"kid": kid})


async def _best_us(accounts: Accounts, secrets: list[str]) -> float:
    best_s = float("inf")
    for start in range(0, len(secrets), _BATCH):
        batch = secrets[start : start + _BATCH]
        begin_s = time.process_time()
        for secret in batch:
            with suppress(StillhouseError):
                await accounts.authenticate(secret)
        best_s = min(best_s, (time.process_time() - begin_s) / len(batch))
    return best_s * 1e6


if __name__ == "__main__":
    main()
