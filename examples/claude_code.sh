#!/usr/bin/env bash
# Starts Claude Code with stillhouse as its API. Arguments go to `claude`.
#
#   npm install --global @anthropic-ai/claude-code
#   export STILLHOUSE_API_KEY=sh_… STILLHOUSE_MODEL=YOUR/MODEL
#   examples/claude_code.sh
#
# Claude Code sends about 20,000 tokens of instructions and tools with the first message, so the model needs
# a context of 64k or more, and tool calls. The demo models have 2,048: they only answer without tools,
#
#   STILLHOUSE_MODEL=stillhouse/demo-tools examples/claude_code.sh --tools "" --system-prompt "Be short." -p "Hello!"
#
# To keep the settings, write the variables below into "env" of ~/.claude/settings.json.
set -euo pipefail

export ANTHROPIC_BASE_URL=${STILLHOUSE_URL:-http://127.0.0.1:8000}/anthropic # it appends /v1/messages
export ANTHROPIC_AUTH_TOKEN=${STILLHOUSE_API_KEY:?set it to your key}
unset ANTHROPIC_API_KEY # would be sent as well

# One model for every role: the main one, subagents, and short background requests.
export ANTHROPIC_MODEL=${STILLHOUSE_MODEL:?set it to the id of a model that calls tools}
export ANTHROPIC_DEFAULT_OPUS_MODEL=$ANTHROPIC_MODEL
export ANTHROPIC_DEFAULT_SONNET_MODEL=$ANTHROPIC_MODEL
export ANTHROPIC_DEFAULT_HAIKU_MODEL=$ANTHROPIC_MODEL

export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1

exec claude "$@"
