"""
Compares llama-server's settings; contenders.py uses the best.

    python -m benchmarks.peers.tune_llama_server [--shape tiny]

It measures tokens per second of a prompt of 512 and of decoding at 8 and 16 streams, greedy and
sampled, with a server per setting, one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import uvloop

from benchmarks.peers.checkpoints import forms
from benchmarks.peers.contenders import Batch, Setting, llama_server
from benchmarks.peers.report import print_row
from benchmarks.peers.run import Prompts
from benchmarks.peers.timeline import figures
from stillhouse.engines.openvino.machine import num_physical_cores

PREFILL_TOKENS = 512
PROMPT_TOKENS = 16
NEW_TOKENS = 16
VARIANTS: tuple[tuple[str, ...], ...] = (
    (),
    ("--flash-attn", "DISABLED"),  # AUTO enables it
    ("--kv-unified",),
    ("--ubatch-size", "256"),
)


async def main() -> None:
    """Print a Markdown table, each row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=["1b", "tiny"], default="1b")
    directory = Path(tempfile.gettempdir()) / "stillhouse-benchmark"
    place = directory / parser.parse_args().shape
    print_row(["options", "prefill", "greedy 8", "greedy 16", "sampled 16"])
    print_row(["---", "---:", "---:", "---:", "---:"])
    for options in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(
                forms(place), num_physical_cores(), directory / "environments", Path(folder)
            )
            rates = await measure(setting, options)
        print_row([" ".join(options), *(f"{rate:.1f}" for rate in rates)])


async def measure(setting: Setting, options: tuple[str, ...]) -> list[float]:
    """Return a row of tokens per second."""
    prompts = Prompts(setting.forms.vocab_size)
    async with llama_server(setting, options) as server:
        await server.run(Batch(prompts.draw(4, PROMPT_TOKENS), 4))
        prefill = figures(await server.run(Batch(prompts.draw(1, PREFILL_TOKENS), 1)))
        rates = [PREFILL_TOKENS / prefill.first_token_s]
        for num_streams, temperature, top_p in ((8, 0.0, 1.0), (16, 0.0, 1.0), (16, 0.6, 0.95)):
            asked = prompts.draw(num_streams, PROMPT_TOKENS)
            streams = await server.run(Batch(asked, NEW_TOKENS, temperature, top_p))
            rates.append(figures(streams).decode)
    return rates


if __name__ == "__main__":
    uvloop.run(main())
