// The AI SDK's provider for servers that speak OpenAI's dialect: `@ai-sdk/openai-compatible`.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { tryProvider } from './ai_sdk.mjs';
import { KEY, Record, URL } from './record.mjs';

const record = new Record(
  '@ai-sdk/openai-compatible',
  "createOpenAICompatible({ baseURL: 'http://HOST/v1/openai', includeUsage: true })",
);

function point(apiKey) {
  return createOpenAICompatible({
    name: 'stillhouse',
    baseURL: `${URL}/v1/openai`,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

await tryProvider(record, point(KEY), point('sh_wrong'));
record.print();
