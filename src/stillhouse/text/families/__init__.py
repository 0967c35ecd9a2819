"""Describes how each model family writes reasoning and tool calls, a file per family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stillhouse.text.families.base import ModelFamily
from stillhouse.text.families.deepseek_r1 import DEEPSEEK_R1
from stillhouse.text.families.deepseek_v31 import DEEPSEEK_V31
from stillhouse.text.families.llama3 import LLAMA3
from stillhouse.text.families.plain import PLAIN
from stillhouse.text.families.qwen import QWEN3, QWEN25

FAMILIES: Mapping[str, ModelFamily] = MappingProxyType(
    {family.name: family for family in (DEEPSEEK_R1, DEEPSEEK_V31, LLAMA3, PLAIN, QWEN25, QWEN3)}
)
