// The official OpenAI client for Node: `openai`.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import {
  ANSWER,
  CITY,
  KEY,
  MESSAGES,
  MODEL,
  RAW,
  Record,
  SUM,
  TOOLS_MODEL,
  URL,
  VERDICT,
  WEATHER,
} from './record.mjs';

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

// An answer that must fit a schema, and is parsed.
async function askForJson() {
  const answer = await client.chat.completions.parse({
    ...asked,
    response_format: { type: 'json_schema', json_schema: { name: 'verdict', schema: VERDICT } },
  });
  assert(['yes', 'no'].includes(JSON.parse(answer.choices[0].message.content).is_even));
  note(answer.usage);
  record.tried('JSON schema');
}

// The client calls a tool by itself, in a stream, and asks again with its result.
async function callTools() {
  const cities = [];
  const usages = [];
  const runner = client.chat.completions
    .runTools({
      model: TOOLS_MODEL,
      messages: [{ role: 'user', content: WEATHER }],
      temperature: 0,
      stream: true,
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: 'Get the weather in a city.',
            parameters: CITY,
            parse: JSON.parse,
            function: ({ city }) => {
              cities.push(city);
              return { temperature: 18, condition: 'sunny' };
            },
          },
        },
      ],
    })
    .on('chunk', (chunk) => chunk.usage && usages.push(chunk.usage));
  assert.match(await runner.finalContent(), /18/);
  assert.deepEqual(cities, ['Paris']);
  usages.forEach(note);
  record.tried('tools');
}

// A prompt without a template goes on as it is.
async function completeRaw() {
  const answer = await client.completions.create({
    model: MODEL,
    prompt: RAW,
    temperature: 0,
    max_tokens: 100,
  });
  assert(answer.choices[0].text.endsWith(ANSWER));
  note(answer.usage);
  record.tried('completions');
}

// The Responses API.
async function respond() {
  const answer = await client.responses.create({ model: MODEL, input: SUM, temperature: 0 });
  assert.equal(answer.output_text, ANSWER);
  record.answered(answer.usage.input_tokens, answer.usage.output_tokens);
  const stream = client.responses.stream({ model: MODEL, input: SUM, temperature: 0 });
  const { output_text, usage } = await stream.finalResponse();
  assert.equal(output_text, ANSWER);
  record.answered(usage.input_tokens, usage.output_tokens);
  record.tried('responses');
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
await askForJson();
await completeRaw();
await respond();
await listModels();
await callTools();
await beRefused();
record.print();
