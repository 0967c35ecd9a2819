// Records what a client's script did, and prints it as one line of JSON for the test.
import { readFileSync } from 'node:fs';

export const URL = process.env.SERVER_URL;
export const KEY = process.env.API_KEY;
export const MODEL = process.env.MODEL;
export const TOOLS_MODEL = process.env.TOOLS_MODEL;
export const SUM = 'What is 17 + 25?';
export const MESSAGES = [{ role: 'user', content: SUM }];
export const ANSWER = '17 + 25 = 42.';
// The same question for an endpoint without a chat template, with the template's tokens.
export const RAW = `<｜begin▁of▁sentence｜><｜User｜>${SUM}<｜Assistant｜><think>\n`;
export const WEATHER = 'What is the weather in Paris?';
export const CITY = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
};
export const VERDICT = {
  type: 'object',
  properties: { is_even: { enum: ['yes', 'no'] } },
  required: ['is_even'],
  additionalProperties: false,
};

/** The features exercised with a client, and the figures it showed of each charged answer. */
export class Record {
  /**
   * @param {string} name The client's name on npm.
   * @param {string} pointed The code that points it at stillhouse.
   */
  constructor(name, pointed) {
    const manifest = new globalThis.URL(`node_modules/${name}/package.json`, import.meta.url);
    const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
    this.report = { client: name, version, pointed, tried: [], answers: [] };
  }

  /** Record one answer; figures that the client does not show are null. */
  answered(promptTokens = null, completionTokens = null, costUsd = null) {
    this.report.answers.push([promptTokens, completionTokens, costUsd]);
  }

  /** Record that a feature works. */
  tried(what) {
    this.report.tried.push(what);
  }

  /** Print the record as one line of JSON. */
  print() {
    console.log(JSON.stringify(this.report));
  }
}
