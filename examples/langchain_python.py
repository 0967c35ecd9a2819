"""
Call stillhouse with LangChain: one answer, a stream, and a tool.

    pip install langchain-openai
    export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
    python examples/langchain_python.py
"""

import os

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

URL = os.environ.get("STILLHOUSE_URL", "http://127.0.0.1:8000")
MODEL = os.environ.get("STILLHOUSE_MODEL", "stillhouse/demo-r1")
TOOLS_MODEL = os.environ.get("STILLHOUSE_TOOLS_MODEL", "stillhouse/demo-tools")


def chat_model(name: str) -> ChatOpenAI:
    """Return a chat model that stillhouse serves."""
    return ChatOpenAI(
        model=name,
        base_url=f"{URL}/v1/openai",
        api_key=os.environ["STILLHOUSE_API_KEY"],
        temperature=0,
    )


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f'{{"city": "{city}", "temperature": 18, "condition": "sunny"}}'


model = chat_model(MODEL)
answer = model.invoke("What is 17 + 25?")
print("answer:", answer.content)
print("usage:", answer.usage_metadata["total_tokens"], "tokens")

print("stream: ", end="")
for chunk in model.stream("What is 17 + 25?"):
    print(chunk.content, end="", flush=True)
print()

with_tools = chat_model(TOOLS_MODEL).bind_tools([get_weather])
messages = [HumanMessage("What is the weather in Paris?")]
messages.append(with_tools.invoke(messages))
for call in messages[-1].tool_calls:
    print("tool call:", call["name"], call["args"])
    messages.append(get_weather.invoke(call))
print("answer with the tool's result:", with_tools.invoke(messages).content)
