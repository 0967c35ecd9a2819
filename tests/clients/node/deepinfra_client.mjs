// DeepInfra's own client for Node: `deepinfra`.
import assert from 'node:assert/strict';
import { TextGeneration } from 'deepinfra';
import { ANSWER, KEY, MODEL, RAW, Record, URL } from './record.mjs';

const record = new Record(
  'deepinfra',
  "new TextGeneration('http://HOST/v1/inference/MODEL', KEY)",
);
const point = (model, key) =>
  new TextGeneration(`${URL}/v1/inference/${model}`, key, { maxRetries: 0 });
const body = { input: RAW, temperature: 0, max_new_tokens: 100 };

// A prompt without a template goes on as it is; it has no method for streams.
async function generate() {
  const answer = await point(MODEL, KEY).generate(body);
  assert(answer.results[0].generated_text.endsWith(ANSWER));
  assert.equal(answer.inference_status.status, 'succeeded');
  const { tokens_input, tokens_generated, cost } = answer.inference_status;
  assert.deepEqual([answer.num_input_tokens, answer.num_tokens], [tokens_input, tokens_generated]);
  record.answered(tokens_input, tokens_generated, cost);
  record.tried('whole');
}

// It prints the status of what fails, and throws an error without it.
async function beRefused() {
  const { error } = console;
  const printed = [];
  console.error = (...words) => printed.push(words);
  await assert.rejects(point(MODEL, 'sh_wrong').generate(body));
  assert.deepEqual(printed[1], ['Status:', 401]);
  record.tried('wrong key');
  printed.length = 0;
  await assert.rejects(point('nobody/nothing', KEY).generate(body));
  assert.deepEqual(printed[1], ['Status:', 404]);
  record.tried('unknown model');
  console.error = error;
}

await generate();
await beRefused();
record.print();
