// Tests of the page's modules that know no document. tests/javascript/test_page_modules.py runs this by `node --test`.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import test from 'node:test';

const { PAGE } = process.env;
const load = (name) => import(pathToFileURL(`${PAGE}/${name}`));
const { duration, grouped, shortened, withPrefix } = await load('format.js');
const { Series, histogram, timeTicks, valueTicks } = await load('series.js');
const { Digits, FieldError, fieldsOf, readFields, snippets, toJson } = await load('calls.js');

test('numbers have units and three digits, whatever their size', () => {
  const shown = [0, 1, 12.345, 999, 1000, 1234500, 5e9, 7.2e17, undefined, NaN].map((one) => withPrefix(one, 'H/s'));
  assert.deepEqual(shown, [
    '0 H/s', '1 H/s', '12.3 H/s', '999 H/s', '1.00 kH/s', '1.23 MH/s', '5.00 GH/s', '720 PH/s', 'unknown', 'unknown',
  ]);
  assert.equal(withPrefix(0.25, ''), '0.250');
  assert.equal(grouped(1234567), '1,234,567');
  assert.equal(grouped(undefined), 'unknown');
});

test('durations are as people say them', () => {
  assert.deepEqual([-3, 42, 420, 3 * 3600, 12 * 86400].map(duration), ['0 s', '42 s', '7 min', '3 h', '12 d']);
});

test('hashes keep both ends', () => {
  assert.equal(shortened('0'.repeat(20) + 'abc'.repeat(14) + 'ff'), '00000000…abcabcff');
  assert.equal(shortened('short'), 'short');
});

test('a series has a day of samples, its gaps and a bound', () => {
  const series = new Series();
  for (let n = 0; n < 2 * 86400; n += 1) {
    series.add(n * 1000, n);
    if (n % 10000 === 5000) series.add(n * 1000 + 1, null);
    assert.ok(series.samples.length <= 2500);
  }
  const times = series.samples.map(([time]) => time);
  assert.deepEqual(times, [...times].sort((one, other) => one - other));
  assert.equal(series.samples.at(-1)[1], 2 * 86400 - 1);
  assert.ok(times[0] >= 85000e3 && times[0] <= 90000e3, `the oldest sample is of ${times[0]}`);
  const widest = times.slice(1).map((time, index) => time - times[index]);
  assert.ok(Math.max(...widest) <= 181000, `at most ${Math.max(...widest)} ms apart`);
  assert.ok(series.samples.filter(([, value]) => value === null).length >= 8, 'gaps stay');
});

test('a value holds until the next one, and not in a gap', () => {
  const series = new Series();
  series.add(1000, null);
  assert.equal(series.samples.length, 0);
  series.add(1000, 5);
  series.add(2000, null);
  series.add(2500, null);
  series.add(3000, 6);
  assert.equal(series.at(999), undefined);
  assert.deepEqual(series.at(1999), [1000, 5]);
  assert.equal(series.at(2400), undefined);
  assert.deepEqual(series.between(1500, 2999), [[1000, 5], [2000, null]]);
});

test('ticks are round and few', () => {
  assert.deepEqual(valueTicks(0), [0, 1]);
  assert.deepEqual(valueTicks(230), [0, 100, 200, 300]);
  for (const span of [5, 600, 3600, 86400, 7 * 86400]) {
    const to = Date.UTC(2026, 10, 30, 20, 12, 7);
    const ticks = timeTicks(to - span * 1000, to, 6);
    assert.ok(ticks.length >= 1 && ticks.length <= 8, `${span}: ${ticks.length}`);
    assert.ok(ticks.every((one) => one >= to - span * 1000 && one <= to && one % 1000 === 0));
  }
  assert.deepEqual(histogram([0.5, 1, 4, 100], [1, 5]), [1, 2, 1]);
});

const method = {
  name: 'send',
  params: [
    { name: 'address', required: true, schema: { type: 'string' } },
    { name: 'amount', required: true, schema: { type: ['number', 'string'] } },
    { name: 'count', schema: { anyOf: [{ type: 'integer' }, { type: 'null' }], default: 3 } },
    { name: 'dry', schema: { type: 'boolean', default: false } },
    { name: 'unit', schema: { enum: ['a', 'b'] } },
    { name: 'options', schema: { $ref: '#/components/schemas/Options' } },
  ],
};

test('the fields of a form follow from the schema', () => {
  const fields = fieldsOf(method, (schema) => (schema.$ref ? { type: 'object' } : schema));
  assert.deepEqual(fields.map(({ kind }) => kind), ['text', 'json', 'number', 'flag', 'choice', 'json']);
  assert.equal(fields[2].placeholder, '3');
  assert.deepEqual(fieldsOf({ name: 'bare' }), []);
});

test('params are by position as long as none is left out, and keep the digits that were typed', () => {
  const fields = fieldsOf(method);
  assert.equal(toJson(readFields(fields, ['D1', '0.10000000', '', '', '', ''])), '["D1", 0.10000000]');
  assert.equal(toJson(readFields(fields, ['D1', '1', '9007199254740993', '', '', ''])), '["D1", 1, 9007199254740993]');
  assert.equal(toJson(readFields(fields, ['true', 'x', '', 'true', 'b', ''])), '{"address": "true", "amount": "x", "dry": true, "unit": "b"}');
  assert.equal(toJson(readFields(fields, ['D1', '1', '', 'false', '', ''], 'by-position')), '["D1", 1, null, false]');
  assert.equal(toJson(readFields(fields.slice(0, 1), ['D1'], 'by-name')), '{"address": "D1"}');
  assert.deepEqual(readFields([], []), []);
});

test('what a field cannot take names the field', () => {
  const fields = fieldsOf(method);
  assert.throws(() => readFields(fields, ['', '1', '', '', '', '']), (error) => error instanceof FieldError && /address/.test(error.message));
  for (const text of ['1e', '007', '.5']) {
    assert.throws(() => readFields(fields, ['D', '1', text, '', '', '']), new RegExp(`count: ${text} is not a number`));
  }
});

test('fields for secrets are known by their names', () => {
  const names = ['passphrase', 'mnemonic', 'address', 'privkey'];
  const fields = fieldsOf({ params: names.map((name) => ({ name, schema: { type: 'string' } })) });
  assert.deepEqual(fields.map(({ isSecret }) => isSecret), [true, true, false, true]);
});

test('the same call in other languages is quoted as they want it', () => {
  const found = snippets('https://node.example/sub/', 'echo', ["it's", null, true, { 'null "true"': new Digits('0.10') }]);
  assert.match(found.curl, /'\{"jsonrpc": "2.0", "id": 1, "method": "echo", "params": \["it'\\''s", null, true, \{"null \\"true\\"": 0.10\}\]\}' 'https:/);
  assert.match(found.JavaScript, /from 'https:\/\/node.example\/sub\/client.js'/);
  assert.match(found.JavaScript, /new Client\('wss:\/\/node.example\/sub\/'\)/);
  assert.match(found.Python, /client.request\("echo", \["it's", None, True, \{"null \\"true\\"": 0.10\}\]\)/);
  assert.match(snippets('http://h/', 'getblockcount', []).JavaScript, /client.call\("getblockcount"\)/);
});
