// The AI SDK's provider for DeepInfra: `@ai-sdk/deepinfra`.
import { createDeepInfra } from '@ai-sdk/deepinfra';
import { tryProvider } from './ai_sdk.mjs';
import { KEY, Record, URL } from './record.mjs';

const record = new Record('@ai-sdk/deepinfra', "createDeepInfra({ baseURL: 'http://HOST/v1' })");
const point = (apiKey) => createDeepInfra({ baseURL: `${URL}/v1`, apiKey });

await tryProvider(record, point(KEY), point('sh_wrong'));
record.print();
