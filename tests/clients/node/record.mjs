// What a client's script tells the test that ran it: one line of JSON, when all went well.
import { readFileSync } from 'node:fs';

export const URL = process.env.SERVER_URL;
export const KEY = process.env.API_KEY;
export const MODEL = process.env.MODEL;
export const TOOLS_MODEL = process.env.TOOLS_MODEL;
export const SUM = 'What is 17 + 25?';
export const MESSAGES = [{ role: 'user', content: SUM }];
export const ANSWER = '17 + 25 = 42.';
// The same question where no template is applied, so that its marks are the caller's to write.
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

/** What was tried with a client, and what it showed of each answer that was charged. */
export class Record {
  /**
   * @param {string} name The client's name on npm.
   * @param {string} pointed How it is pointed at stillhouse, as its user would write it.
   */
  constructor(name, pointed) {
    const manifest = new globalThis.URL(`node_modules/${name}/package.json`, import.meta.url);
    const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
    this.told = { client: name, version, pointed, tried: [], answers: [] };
  }

  /** Note one answer; what the client does not show is left out. */
  answered(promptTokens = null, completionTokens = null, costUsd = null) {
    this.told.answers.push([promptTokens, completionTokens, costUsd]);
  }

  /** Note that something was tried and came back as it should. */
  tried(what) {
    this.told.tried.push(what);
  }

  /** Print the line. */
  tell() {
    console.log(JSON.stringify(this.told));
  }
}
