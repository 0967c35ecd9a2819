// What is tried with each of the AI SDK's providers that may be pointed at stillhouse.
import assert from 'node:assert/strict';
import { APICallError, Output, generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { ANSWER, CITY, MODEL, SUM, TOOLS_MODEL, VERDICT, WEATHER } from './record.mjs';

// An answer whole, with its reasoning.
async function askWhole(record, provider) {
  const answer = await generateText({ model: provider(MODEL), prompt: SUM, temperature: 0 });
  assert.equal(answer.text, ANSWER);
  assert.equal(answer.finishReason, 'stop');
  note(record, answer.usage);
  record.tried('whole');
  assert.match(answer.reasoningText, /42/);
  record.tried('reasoning');
}

// An answer in pieces.
async function askStream(record, provider) {
  const answer = streamText({ model: provider(MODEL), prompt: SUM, temperature: 0 });
  const pieces = await Array.fromAsync(answer.textStream);
  assert.equal(pieces.join(''), ANSWER);
  assert.equal(await answer.finishReason, 'stop');
  assert.match(await answer.reasoningText, /42/);
  note(record, await answer.usage);
  record.tried('stream');
}

// An answer that must fit a schema, and is parsed.
async function askForJson(record, provider) {
  const answer = await generateText({
    model: provider(MODEL),
    prompt: SUM,
    temperature: 0,
    output: Output.object({ schema: jsonSchema(VERDICT) }),
  });
  assert(['yes', 'no'].includes(answer.output.is_even));
  note(record, answer.usage);
  record.tried('JSON schema');
}

// The SDK calls a tool by itself, in a stream, and asks again with its result.
async function callTools(record, provider) {
  const cities = [];
  const answer = streamText({
    model: provider(TOOLS_MODEL),
    prompt: WEATHER,
    temperature: 0,
    stopWhen: isStepCount(2),
    tools: {
      get_weather: tool({
        description: 'Get the weather in a city.',
        inputSchema: jsonSchema(CITY),
        execute: async ({ city }) => {
          cities.push(city);
          return { temperature: 18, condition: 'sunny' };
        },
      }),
    },
  });
  assert.match(await answer.text, /18/);
  assert.deepEqual(cities, ['Paris']);
  for (const step of await answer.steps) note(record, step.usage);
  record.tried('tools');
}

// A prompt to the completions endpoint, in the SDK's own template.
async function completeRaw(record, provider) {
  const model = provider.completionModel(MODEL);
  const answer = await generateText({ model, prompt: SUM, temperature: 0, maxOutputTokens: 20 });
  assert.equal(answer.finishReason, 'length');
  assert.notEqual(answer.text, '');
  note(record, answer.usage);
  record.tried('completions');
}

// Errors become the SDK's own, with the server's status and words.
async function beRefused(record, provider, wrongKey) {
  await assert.rejects(generateText({ model: wrongKey(MODEL), prompt: SUM }), (error) => {
    assert(APICallError.isInstance(error));
    assert.equal(error.statusCode, 401);
    return true;
  });
  record.tried('wrong key');
  const errors = [];
  const answer = streamText({
    model: provider('nobody/nothing'),
    prompt: SUM,
    onError: ({ error }) => errors.push(error),
  });
  await answer.consumeStream();
  assert.equal(errors[0].statusCode, 404);
  assert.match(errors[0].message, /nobody\/nothing/);
  record.tried('unknown model');
}

function note(record, usage) {
  record.answered(usage.inputTokens, usage.outputTokens);
}

/** Try everything with *provider*, and errors with one whose key is wrong as well. */
export async function tryProvider(record, provider, wrongKey) {
  await askWhole(record, provider);
  await askStream(record, provider);
  await askForJson(record, provider);
  await completeRaw(record, provider);
  await callTools(record, provider);
  await beRefused(record, provider, wrongKey);
}
