curl "https://api.deepinfra.com/v1/openai/chat/completions" \
-H "Content-Type: application/json" \
-H "Authorization: Bearer $DEEPINFRA_TOKEN" \
-d '{
"model": "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
"stream": true,
"messages": [
{
"role": "user",
"content": "Hello!"
}
]
}'
