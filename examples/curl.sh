#!/usr/bin/env bash
# Calls stillhouse with curl: lists the models, asks once, and streams an answer.
#
#   export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
#   examples/curl.sh
set -euo pipefail

url=${STILLHOUSE_URL:-http://127.0.0.1:8000}/v1/openai
model=${STILLHOUSE_MODEL:-stillhouse/demo-r1}
headers=(-H "Authorization: Bearer ${STILLHOUSE_API_KEY:?set it to your key}" -H "Content-Type: application/json")

body() {
  cat <<JSON
{"model": "$model", "messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "stream": $1}
JSON
}

echo "# Models"
curl --silent --show-error --fail-with-body "${headers[@]}" "$url/models"

echo -e "\n\n# One answer, with its tokens and its cost in USD"
curl --silent --show-error --fail-with-body "${headers[@]}" "$url/chat/completions" -d "$(body false)"

echo -e "\n\n# A stream: one event per delta, usage in the last, then [DONE]"
curl --silent --show-error --fail-with-body --no-buffer "${headers[@]}" "$url/chat/completions" -d "$(body true)"
