"""One file per way of answering; a catalogue entry names one of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stillhouse.models.dialects.base import Dialect
from stillhouse.models.dialects.deepseek_r1 import DEEPSEEK_R1
from stillhouse.models.dialects.deepseek_v31 import DEEPSEEK_V31
from stillhouse.models.dialects.llama3 import LLAMA3
from stillhouse.models.dialects.plain import PLAIN
from stillhouse.models.dialects.qwen import QWEN3, QWEN25

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (DEEPSEEK_R1, DEEPSEEK_V31, LLAMA3, PLAIN, QWEN25, QWEN3)}
)
