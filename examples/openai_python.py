"""
Call stillhouse with OpenAI's Python client.

    pip install openai
    export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
    python examples/openai_python.py
"""

import os

from openai import OpenAI

URL = os.environ.get("STILLHOUSE_URL", "http://127.0.0.1:8000")
MODEL = os.environ.get("STILLHOUSE_MODEL", "stillhouse/demo-r1")

client = OpenAI(base_url=f"{URL}/v1/openai", api_key=os.environ["STILLHOUSE_API_KEY"])

print("models:", ", ".join(model.id for model in client.models.list()))

answer = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "What is 17 + 25?"}],
    temperature=0,
)
message, usage = answer.choices[0].message, answer.usage
print("reasoning:", message.reasoning_content)
print("answer:", message.content)
print(f"usage: {usage.total_tokens} tokens, {usage.estimated_cost:.8f} USD")

stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "What is 17 + 25?"}],
    temperature=0,
    stream=True,
)
print("stream: ", end="")
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
