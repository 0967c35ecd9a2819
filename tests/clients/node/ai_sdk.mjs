// What is tried with each of the AI SDK's providers that may be pointed at stillhouse.
import assert from 'node:assert/strict';
import { APICallError, generateText, streamText } from 'ai';
import { ANSWER, MODEL, SUM } from './record.mjs';

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
  await beRefused(record, provider, wrongKey);
}
