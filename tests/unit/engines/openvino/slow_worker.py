"""The embedded engine's worker, whose grammars are compiled when a file is there."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.engines.openvino import worker
from stillhouse.engines.openvino.sampling.grammar import Grammars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llguidance import LLMatcher


def main(go_file: str, settings_json: str, socket_number: str) -> None:
    compile_ = Grammars._compile

    def wait_and_compile(self: Grammars, text: str, begun: Sequence[int]) -> LLMatcher:
        while not Path(go_file).exists():
            threading.Event().wait(0.01)
        matcher: LLMatcher = compile_(self, text, begun)
        return matcher

    Grammars._compile = wait_and_compile  # type: ignore[method-assign]  # (in its own process)
    worker.main(settings_json, socket_number)


if __name__ == "__main__":
    main(*sys.argv[1:])
