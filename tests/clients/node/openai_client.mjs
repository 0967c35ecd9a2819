// The official OpenAI client for Node: `openai`.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { ANSWER, KEY, MESSAGES, MODEL, Record, URL } from './record.mjs';

const record = new Record('openai', "new OpenAI({ baseURL: 'http://HOST/v1/openai' })");
const settings = { baseURL: `${URL}/v1/openai`, apiKey: KEY, maxRetries: 0 };
const client = new OpenAI(settings);
const asked = { model: MODEL, messages: MESSAGES, temperature: 0 };

// An answer whole, with its reasoning and cost.
async function askWhole() {
  const answer = await client.chat.completions.create(asked);
  const [{ message, finish_reason }] = answer.choices;
  assert.equal(message.content, ANSWER);
  assert.equal(finish_reason, 'stop');
  note(answer.usage);
  record.tried('whole');
  assert.match(message.reasoning_content, /42/);
  record.tried('reasoning');
}

// An answer in pieces; usage comes with the last of them.
async function askStream() {
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    chunks.push(chunk);
  }
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), ANSWER);
  note(chunks.at(-1).usage);
  record.tried('stream');
}

// The client's own accumulator.
async function assembleStream() {
  const stream = client.chat.completions.stream({
    ...asked,
    stream_options: { include_usage: true },
  });
  const answer = await stream.finalChatCompletion();
  assert.equal(answer.choices[0].message.content, ANSWER);
  note(answer.usage);
  record.tried('stream helper');
}

// The list of models and one of them.
async function listModels() {
  const models = await Array.fromAsync(client.models.list());
  assert(models.some((model) => model.id === MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  record.tried('models');
}

// Errors become the client's own, by status.
async function beRefused() {
  const wrong = new OpenAI({ ...settings, apiKey: 'sh_wrong' });
  await assert.rejects(wrong.chat.completions.create(asked), OpenAI.AuthenticationError);
  record.tried('wrong key');
  const unknown = client.chat.completions.create({ ...asked, model: 'nobody/nothing', stream: true });
  await assert.rejects(unknown, OpenAI.NotFoundError);
  record.tried('unknown model');
}

function note(usage) {
  record.answered(usage.prompt_tokens, usage.completion_tokens, usage.estimated_cost);
}

await askWhole();
await askStream();
await assembleStream();
await listModels();
await beRefused();
record.tell();
