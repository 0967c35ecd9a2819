"""
Call stillhouse with Anthropic's Python client.

    pip install anthropic
    export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
    python examples/anthropic_python.py
"""

import os

from anthropic import Anthropic

URL = os.environ.get("STILLHOUSE_URL", "http://127.0.0.1:8000")
MODEL = os.environ.get("STILLHOUSE_MODEL", "stillhouse/demo-r1")
REQUEST = {
    "model": MODEL,
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "extra_body": {"temperature": 0},
}

client = Anthropic(base_url=f"{URL}/anthropic", api_key=os.environ["STILLHOUSE_API_KEY"])

message = client.messages.create(**REQUEST)
for block in message.content:
    if block.type == "thinking":
        print("reasoning:", block.thinking)
    else:
        print("answer:", block.text)
print(f"usage: {message.usage.input_tokens} in, {message.usage.output_tokens} out")

print("stream: ", end="")
with client.messages.stream(**REQUEST) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
