"""The demo models that come with stillhouse, and the id that they answer to."""

from __future__ import annotations

DEMO_MODEL = "stillhouse/demo-r1"
DEMO_TOOLS_MODEL = "stillhouse/demo-tools"
#: The seed page's own model id: without a configuration, the demo model answers to it.
DEMO_FALLBACKS = {"deepseek-ai/DeepSeek-R1-Distill-Llama-70B": DEMO_MODEL}
