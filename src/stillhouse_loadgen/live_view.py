"""Shows the progress of a run in a terminal; without a terminal, it shows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stillhouse_loadgen.client.chat_client import Stopwatch
from stillhouse_loadgen.load import Load
from stillhouse_loadgen.report.document import LoadShape
from stillhouse_loadgen.report.summary import Latencies
from stillhouse_loadgen.report.tables import milliseconds

_REFRESH_S = 0.5  # rendering takes milliseconds in which nothing is sent
_RECENT_S = 10.0


def live_view(
    console: Console,
) -> Callable[[LoadShape, Load, Stopwatch], AbstractAsyncContextManager[None]]:
    """Returns the display of a run on *console*."""

    @asynccontextmanager
    async def shown(shape: LoadShape, load: Load, watch: Stopwatch) -> AsyncIterator[None]:
        if not console.is_terminal:
            yield
            return
        with Live(console=console, auto_refresh=False, transient=True) as live:
            drawing = asyncio.create_task(_draw(live, shape, load, watch))
            try:
                yield
            finally:
                drawing.cancel()

    return shown


async def _draw(live: Live, shape: LoadShape, load: Load, watch: Stopwatch) -> None:
    while True:
        live.update(state_table(shape, load, watch.now_s()), refresh=True)
        await asyncio.sleep(_REFRESH_S)


def state_table(shape: LoadShape, load: Load, now_s: float) -> Table:
    """Returns the state of a run; rates and latencies are those of the last ten seconds."""
    progress = load.progress
    window_s = max(1e-9, min(_RECENT_S, now_s))
    ended = [r for r in progress.recent if r.end_s is not None and r.end_s > now_s - window_s]
    whole = [record for record in ended if record.is_whole]
    ttft = Latencies.of(record.ttft_s for record in whole)
    tokens = sum(record.completion_tokens or 0 for record in whole)
    failures = ", ".join(f"{kind} {count}" for kind, count in progress.failures.items())
    table = Table(title=f"{shape}, {now_s:.0f} s", show_header=False, title_justify="left")
    for name, value in (
        ("due", f"{progress.num_due}, {progress.num_due / max(1e-9, now_s):.1f}/s"),
        ("in flight", str(progress.num_in_flight)),
        ("answered", f"{len(whole) / window_s:.1f}/s"),
        ("output tokens", f"{tokens / window_s:.0f}/s"),
        ("first token p50, p99", f"{milliseconds(ttft.p50)} ms, {milliseconds(ttft.p99)} ms"),
        ("failures", failures or "none"),
    ):
        table.add_row(name, value)
    return table
