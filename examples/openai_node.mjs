// Calls stillhouse with OpenAI's client for Node.
//
//   npm install openai
//   export STILLHOUSE_API_KEY=sh_…       # `stillhouse serve` shows it at the first start
//   node examples/openai_node.mjs
import OpenAI from 'openai';

const {
  STILLHOUSE_URL: url = 'http://127.0.0.1:8000',
  STILLHOUSE_MODEL: model = 'stillhouse/demo-r1',
  STILLHOUSE_API_KEY: apiKey,
} = process.env;

const client = new OpenAI({ baseURL: `${url}/v1/openai`, apiKey });
const request = {
  model,
  messages: [{ role: 'user', content: 'What is 17 + 25?' }],
  temperature: 0,
};

const models = await Array.fromAsync(client.models.list());
console.log('models:', models.map(({ id }) => id).join(', '));

const { choices, usage } = await client.chat.completions.create(request);
console.log('reasoning:', choices[0].message.reasoning_content);
console.log('answer:', choices[0].message.content);
console.log(`usage: ${usage.total_tokens} tokens, ${usage.estimated_cost.toFixed(8)} USD`);

process.stdout.write('stream: ');
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  process.stdout.write(chunk.choices[0].delta.content ?? '');
}
console.log();
