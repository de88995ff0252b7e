// Methods as their OpenRPC descriptions have them: fields for params, and the same call in other languages. Nothing here
// knows the document.

const typesOf = (schema) => [schema?.type, ...(schema?.anyOf ?? schema?.oneOf ?? []).map((one) => one.type)].flat().filter(Boolean);

/** Return the fields of a form for a method: name, kind (`choice`, `flag`, `number`, `text` or `json`), choices, help. */
export function fieldsOf(method, resolve = (schema) => schema) {
  return (method.params ?? []).map(({ name, required, schema: given, description }) => {
    const schema = resolve(given ?? {});
    const types = typesOf(schema).filter((one) => one !== 'null');
    const field = { name, required: required === true, description: description ?? '', placeholder: '', isSecret: SECRET.test(name) };
    if (schema.default !== undefined && schema.default !== null) field.placeholder = JSON.stringify(schema.default);
    if (schema.enum) return { ...field, kind: 'choice', choices: schema.enum };
    if (types.length === 1 && types[0] === 'boolean') return { ...field, kind: 'flag', choices: [true, false] };
    if (types.length && types.every((one) => one === 'integer' || one === 'number')) return { ...field, kind: 'number' };
    if (types.length === 1 && types[0] === 'string') return { ...field, kind: 'text' };
    return { ...field, kind: 'json' };
  });
}

const NUMBER = /^\s*-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\s*$/;
const SECRET = /pass|mnemonic|seed|priv|secret|preimage/i;

/** A value that a field cannot take. */
export class FieldError extends Error {
  constructor(field, message) {
    super(`${field.name}: ${message}`);
    this.field = field;
  }
}

function valueOf(field, text) {
  if (field.kind === 'text') return text;
  if (field.kind === 'choice') return field.choices.find((one) => String(one) === text);
  if (field.kind === 'flag') return text === 'true';
  if (NUMBER.test(text)) return new Digits(text.trim());
  if (field.kind === 'number') throw new FieldError(field, `${text} is not a number`);
  try {
    return JSON.parse(text);
  } catch {
    return text; // where several types fit, what is not JSON is a string
  }
}

/** A number with the digits that were typed, since an amount must not be rounded. */
export class Digits {
  constructor(text) {
    this.text = text;
  }
}

/** Return JSON for params, in which a `Digits` has its digits. */
export function toJson(value, indent = '') {
  const inner = `${indent}  `;
  if (value instanceof Digits) return value.text;
  if (Array.isArray(value)) return `[${value.map((one) => toJson(one)).join(', ')}]`;
  if (value && typeof value === 'object') {
    return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${toJson(one, inner)}`).join(', ')}}`;
  }
  return JSON.stringify(value);
}

/** Return params for what was typed into the fields: by position if no field before the last one is empty, else by name. */
export function readFields(fields, texts, structure = 'either') {
  const given = fields.map((field, index) => [field, texts[index]]).filter(([, text]) => text !== '');
  for (const field of fields) {
    if (field.required && !given.some(([one]) => one === field)) throw new FieldError(field, 'a value is required');
  }
  const values = given.map(([field, text]) => valueOf(field, text));
  const isPrefix = given.every(([field], index) => field === fields[index]);
  if (structure === 'by-name' || (!isPrefix && structure !== 'by-position')) {
    return Object.fromEntries(given.map(([field], index) => [field.name, values[index]]));
  }
  if (isPrefix) return values;
  const last = fields.indexOf(given.at(-1)[0]);
  return fields.slice(0, last + 1).map((field) => {
    const index = given.findIndex(([one]) => one === field);
    return index < 0 ? null : values[index];
  });
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const pythonic = (json) => json.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (token) =>
  ({ true: 'True', false: 'False', null: 'None' })[token] ?? token);

/** Return the same call for a shell, JavaScript and Python. The address is that of the page. */
export function snippets(address, method, params) {
  const json = toJson(params);
  const body = `{"jsonrpc": "2.0", "id": 1, "method": ${JSON.stringify(method)}, "params": ${json}}`;
  const url = address.replace(/^http/, 'ws');
  const name = JSON.stringify(method);
  const isEmpty = json === '[]' || json === '{}';
  return {
    curl: `curl -H 'X-Dilithion-RPC: 1' -H 'Content-Type: application/json' \\\n  -d ${quoted(body)} ${quoted(address)}`,
    JavaScript: `import { Client } from '${address}client.js';\n\nconst client = new Client('${url}');\n`
      + `console.log(await client.call(${name}${isEmpty ? '' : `, ${json}`}));`,
    Python: `from dilithion_ws.client import Client\n\nwith Client("${url}") as client:\n`
      + `    print(client.request(${name}, ${pythonic(json)}))`,
  };
}
