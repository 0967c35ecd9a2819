from __future__ import annotations

import asyncio
import threading

import pytest

from stillhouse.clock import SystemClock
from stillhouse.serving.admission.thread_pool import FairThreadPool


def uncharged(_seconds):
    pass


async def test_one_account_leaves_a_thread_to_others():
    """However much it sends, and however long that takes."""
    threads = FairThreadPool(2, SystemClock())
    may_end = threading.Event()
    slow = [
        asyncio.create_task(threads.run(may_end.wait, account_id=1, key_id=n, charge=uncharged))
        for n in range(5)
    ]
    await asyncio.sleep(0)

    assert 7 == await threads.run(lambda: 7, account_id=2, key_id=9, charge=uncharged)
    assert not any(task.done() for task in slow)
    may_end.set()
    assert [True] * 5 == await asyncio.gather(*slow)


async def test_what_fails_is_charged():
    """A prompt that is refused took its time, too."""
    charged = []
    threads = FairThreadPool(1, SystemClock())
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0, account_id=1, key_id=1, charge=charged.append)

    (seconds,) = charged
    assert seconds > 0
