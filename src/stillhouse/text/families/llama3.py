"""Llama 3.1 and later, Instruct: no reasoning, and one tool call as the whole answer."""

from __future__ import annotations

from stillhouse.text.families.base import ModelFamily
from stillhouse.text.families.tool_call_forms import LLAMA3_CALLS

LLAMA3 = ModelFamily("llama3", call_form=LLAMA3_CALLS)
