// Calls stillhouse with the AI SDK: one answer, a stream, and an object that fits a schema.
//
//   npm install ai @ai-sdk/openai-compatible
//   export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
//   node examples/ai_sdk_node.mjs
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, generateText, jsonSchema, streamText } from 'ai';

const {
  STILLHOUSE_URL: url = 'http://127.0.0.1:8000',
  STILLHOUSE_MODEL: modelId = 'stillhouse/demo-r1',
  STILLHOUSE_API_KEY: apiKey,
} = process.env;

const stillhouse = createOpenAICompatible({
  name: 'stillhouse',
  baseURL: `${url}/v1/openai`,
  apiKey,
  includeUsage: true, // in streams, too
  supportsStructuredOutputs: true, // without it, the SDK asks for any JSON instead of a schema's
});
const request = { model: stillhouse(modelId), prompt: 'What is 17 + 25?', temperature: 0 };

const answer = await generateText(request);
console.log('reasoning:', answer.reasoningText);
console.log('answer:', answer.text);
console.log(`usage: ${answer.usage.totalTokens} tokens`);

process.stdout.write('stream: ');
for await (const text of streamText(request).textStream) process.stdout.write(text);
console.log();

const schema = jsonSchema({
  type: 'object',
  properties: { is_even: { enum: ['yes', 'no'] } },
  required: ['is_even'],
  additionalProperties: false,
});
const { output } = await generateText({ ...request, output: Output.object({ schema }) });
console.log('object:', JSON.stringify(output));
