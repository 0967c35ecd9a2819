"""Describes how each family of models writes tool calls."""

from __future__ import annotations

from stillhouse.types.tool_call_form import ToolCallForm

#: DeepSeek-V3.1, as its chat template writes earlier calls.
DEEPSEEK_V31_CALLS = ToolCallForm(
    begin="<｜tool▁calls▁begin｜>",
    call_begin="<｜tool▁call▁begin｜>",
    before_arguments="<｜tool▁sep｜>",
    call_end="<｜tool▁call▁end｜>",
    end="<｜tool▁calls▁end｜>",
    tags=(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
)

#: Hermes 2 Pro, and after it Qwen2.5 and Qwen3.
HERMES_CALLS = ToolCallForm(
    call_begin='<tool_call>\n{"name": "',
    before_arguments='", "arguments": ',
    call_end="}\n</tool_call>",
    separator="\n",
    tags=("<tool_call>", "</tool_call>"),
)

#: Llama 3.1 and later: the whole answer is one call, without any tag.
LLAMA3_CALLS = ToolCallForm(
    call_begin='{"name": "',
    before_arguments='", "parameters": ',
    call_end="}",
    max_calls=1,
)
