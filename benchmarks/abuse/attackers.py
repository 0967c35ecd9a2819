"""
Runs an attacker, or the sink, as a process of its own.

    python -m benchmarks.abuse.attackers

It reads an `AttackSpec` as one line of JSON, prints "ready", begins at the next line, and prints
what it did.

An attacker connects from other loopback addresses than the victim, prepares what it sends before
it begins, and has a lower priority for the processor, which all of them share.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from contextlib import suppress

from benchmarks.abuse.attack import Attack, AttackSpec
from benchmarks.abuse.attacks import ATTACKS
from benchmarks.abuse.sink import Sink


async def sink() -> None:
    """Print the port, and read everything until the end of stdin."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=2048)
    say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)


async def run(spec: AttackSpec) -> None:
    """Attack at the next line of stdin."""
    attack = Attack(spec)
    say("ready")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    attack.begin()
    with suppress(TimeoutError):
        await asyncio.wait_for(ATTACKS[spec.attack](attack), spec.seconds + 0.5)
    say(attack.result())
    os._exit(0)  # pending requests are abandoned


def say(fact: object) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the sink or an attack, as the first line of stdin says."""
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    question = json.loads(sys.stdin.readline())
    asyncio.run(sink() if question == "sink" else run(AttackSpec(**question)))


if __name__ == "__main__":
    main()
