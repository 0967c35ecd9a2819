"""DeepSeek-V3.1: thinks only where the prompt ends in ``<think>``; by default in ``</think>``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from stillhouse.text.families.base import ModelFamily, Reasoning
from stillhouse.text.families.tool_call_forms import DEEPSEEK_V31_CALLS
from stillhouse.text.prompt.template import NO_PARAMETERS
from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message, Tool

REASONING = Reasoning(
    begin="<think>",
    end="</think>",
    is_on=False,
    variable="thinking",
    is_opened_by_template=True,
    goes_with_tools=False,  # model card: "Toolcall is supported in non-thinking mode"
)
BEFORE_TOOLS = "## Tools\nYou have access to the following tools:\n"
AFTER_TOOLS = """
IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments\
<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>

Where:

- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces
"""


def after_first_close(message: Message) -> Message:
    """Returns the text behind the first ``</think>``, as V3.1's template cuts answers."""
    before, tag, after = message.content.partition(REASONING.tags.close)
    return replace(message, content=after if tag else before, reasoning="")


def describe_tools(tools: Sequence[Tool]) -> list[Segment]:
    """
    The system text about tools, which V3.1's own template leaves to the caller.

    Source:
        Model card of DeepSeek-V3.1, "ToolCall", with the line breaks of vLLM's
        ``tool_chat_template_deepseekv31.jinja`` (the same in SGLang and Ollama).
    """
    segments = [Segment(BEFORE_TOOLS, is_template=True)]
    for tool in tools:
        parameters = NO_PARAMETERS if tool.parameters is None else tool.parameters
        segments += [
            Segment("\n### ", is_template=True),
            Segment(tool.name, is_template=False),
            Segment("\nDescription: ", is_template=True),
            Segment(tool.description, is_template=False),
            Segment("\n\nParameters: ", is_template=True),
            Segment(json.dumps(parameters, ensure_ascii=False), is_template=False),
            Segment("\n", is_template=True),
        ]
    return [*segments, Segment(AFTER_TOOLS, is_template=True)]


DEEPSEEK_V31 = ModelFamily(
    "deepseek_v31",
    history=after_first_close,
    reasoning=REASONING,
    call_form=DEEPSEEK_V31_CALLS,
    describe_tools=describe_tools,
)
