// The method browser: search, a form for params, results, and what was called before.
import { FieldError, Digits, fieldsOf, readFields, snippets, toJson } from './calls.js';
import { decimal } from './client.js';
import { copyButton, el, make } from './dom.js';
import { tree } from './tree.js';

const MOST_RESULTS = 30;
const MOST_CALLS = 100;

/** Return params as the client takes them: numbers keep the digits that were typed. */
function forClient(value) {
  if (value instanceof Digits) return decimal(value.text);
  if (Array.isArray(value)) return value.map(forClient);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, forClient(one)]));
  }
  return value;
}

export class MethodBrowser {
  #methods = []; #schemas = {}; #method = null; #inputs = []; #fields = []; #earlier = []; #at = 0;

  /**
   * @param call calls a method: (name, params) => promise of its result.
   * @param follow shows the block or transaction of a hash.
   */
  constructor(call, follow) {
    this.call = call;
    this.follow = follow;
    el('search').oninput = () => this.#list();
    el('search').onkeydown = (event) => this.#searchKey(event);
    el('form').onsubmit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    el('form').oninput = () => this.#describeCall();
    el('form').onkeydown = (event) => this.#historyKey(event);
    for (const button of document.querySelectorAll('#languages button')) {
      button.onclick = () => this.#language(button.textContent);
    }
    el('code').after(copyButton(() => el('code').textContent, 'copy the code'));
    this.#language('curl');
  }

  /** Show the methods of an OpenRPC document. */
  show({ methods, components }) {
    this.#methods = methods;
    this.#schemas = components?.schemas ?? {};
    this.#list();
    if (this.#method === null && methods.length) {
      this.select(methods.find(({ name }) => name === 'getblockcount')?.name ?? methods[0].name);
    }
  }

  #resolve = (schema) => (schema.$ref ? this.#schemas[schema.$ref.split('/').at(-1)] ?? {} : schema);

  #list() {
    const wanted = el('search').value.trim().toLowerCase();
    const found = this.#methods.filter(({ name, summary }) => `${name} ${summary ?? ''}`.toLowerCase().includes(wanted));
    found.sort((one, other) => other.name.startsWith(wanted) - one.name.startsWith(wanted));
    el('methods').replaceChildren(...found.map(({ name, summary }) => {
      const button = make('button', { type: 'button' }, make('b', {}, name), make('span', {}, summary ?? ''));
      button.setAttribute('aria-current', String(name === this.#method?.name));
      button.onclick = () => this.select(name);
      return make('li', {}, button);
    }));
    el('found').textContent = `${found.length} of ${this.#methods.length}`;
    if (!found.length && wanted) {
      const button = make('button', { type: 'button' }, make('b', {}, el('search').value.trim()), make('span', {}, 'not listed; call it anyway'));
      button.onclick = () => this.select(el('search').value.trim());
      el('methods').append(make('li', {}, button));
    }
  }

  /** Show the form of a method, with texts in its fields. */
  select(name, texts = []) {
    const known = this.#methods.find((one) => one.name === name);
    this.#method = known ?? { name, summary: 'This method is not listed.', params: [] };
    // What has no description of its params, such as a node behind a gateway may have, takes them as JSON.
    const isOpen = !known || (known.params ?? []).some((one) => one.name === 'params' && known.params.length === 1);
    this.#fields = isOpen
      ? [{ name: 'params', kind: 'json', required: false, description: 'as JSON, such as [100] or {"height": 100}', placeholder: '[]', whole: true }]
      : fieldsOf(this.#method, this.#resolve);
    this.#inputs = this.#fields.map((field, index) => this.#input(field, texts[index] ?? ''));
    el('method').textContent = name;
    const { summary = '', description = '' } = this.#method;
    el('about').textContent = description && description !== summary ? `${summary}. ${description}` : summary;
    const permission = this.#method['x-permission'] ?? '';
    const changes = permission !== '' && !/^READ_\w+(\|READ_\w+)*$/.test(permission);
    el('permission').textContent = changes ? `Changes something: it needs the permission ${permission}.` : '';
    el('fields').replaceChildren(...this.#inputs.map((input, index) => {
      const { name: label, required, description: help } = this.#fields[index];
      return make('label', {}, make('span', {}, label, required ? make('i', {}, ' required') : null), input, help ? make('small', {}, help) : null);
    }));
    for (const button of el('methods').querySelectorAll('button')) {
      button.setAttribute('aria-current', String(button.firstChild.textContent === name));
    }
    el('problem').textContent = '';
    this.#describeCall();
  }

  #input(field, text) {
    if (field.choices) {
      const options = ['', ...field.choices.map(String)].map((one) => make('option', { value: one }, one));
      const select = make('select', {}, ...options);
      select.value = text;
      return select;
    }
    const input = field.kind === 'json' && !field.isSecret ? make('textarea', { rows: 1 }) : make('input', {});
    if (field.isSecret) input.type = 'password';
    if (field.kind === 'number') input.inputMode = 'decimal';
    return Object.assign(input, { value: text, placeholder: field.placeholder, autocomplete: 'off', spellcheck: false });
  }

  /** Return what was typed, with secrets as dots if it will be shown. */
  #texts(isShown) {
    return this.#inputs.map((input, index) => (isShown && this.#fields[index].isSecret && input.value ? '•••' : input.value));
  }

  #read(isShown = false) {
    const texts = this.#texts(isShown);
    if (!this.#fields[0]?.whole) return readFields(this.#fields, texts, this.#method.paramStructure);
    if (!texts[0].trim()) return [];
    let params;
    try {
      params = JSON.parse(texts[0]);
    } catch (error) {
      throw new FieldError(this.#fields[0], `not valid JSON: ${error.message}`);
    }
    return params !== null && typeof params === 'object' ? params : [params];
  }

  #language(name) {
    for (const button of document.querySelectorAll('#languages button')) {
      button.setAttribute('aria-pressed', String(button.textContent === name));
    }
    this.language = name;
    this.#describeCall();
  }

  #describeCall() {
    if (!this.#method) return;
    try {
      const address = new URL('.', location.href).href;
      el('code').textContent = snippets(address, this.#method.name, this.#read(true))[this.language];
    } catch (error) {
      el('code').textContent = error.message;
    }
  }

  async #submit() {
    const { name } = this.#method;
    let params;
    el('problem').textContent = '';
    for (const input of this.#inputs) input.removeAttribute('aria-invalid');
    try {
      params = this.#read();
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      const input = this.#inputs[this.#fields.indexOf(error.field)];
      el('problem').textContent = error.message;
      input.setAttribute('aria-invalid', 'true');
      return input.focus();
    }
    this.#earlier.push([name, this.#inputs.map((input, index) => (this.#fields[index].isSecret ? '' : input.value))]);
    this.#earlier.splice(0, this.#earlier.length - MOST_CALLS);
    this.#at = this.#earlier.length;
    const summary = make('summary', {}, make('code', {}, `${name}(${toJson(this.#read(true)).slice(1, -1)})`), make('span', {}, ' …'));
    const answer = make('details', { open: true, className: 'answer' }, summary);
    el('outcome').textContent = '';
    el('results').prepend(answer);
    while (el('results').childElementCount > MOST_RESULTS) el('results').lastElementChild.remove();
    const begin = performance.now();
    const took = () => ` ${Math.round(performance.now() - begin)} ms`;
    try {
      const result = await this.call(name, forClient(params));
      summary.lastChild.textContent = took();
      el('outcome').textContent = `${name} has returned.`;
      answer.append(make('div', { className: 'value' }, tree(result, this.follow)), copyButton(() => JSON.stringify(result, null, 2), 'copy the result'));
    } catch (error) {
      summary.lastChild.textContent = took();
      const code = error.code === undefined ? '' : ` (${error.code})`;
      el('outcome').textContent = `${name} has failed: ${error.message}`;
      answer.append(make('p', { className: 'error' }, error.message + code));
      if (error.data !== undefined) answer.append(make('div', { className: 'value' }, tree(error.data, this.follow)));
    }
  }

  /** Forget what was called: another user is logged in. */
  forget() {
    this.#earlier = [];
    this.#at = 0;
    el('results').replaceChildren();
    if (this.#method) this.select(this.#method.name);
  }

  #searchKey(event) {
    const buttons = [...el('methods').querySelectorAll('button')];
    if (event.key === 'ArrowDown') {
      event.preventDefault();
      buttons[0]?.focus();
    } else if (event.key === 'Enter') {
      event.preventDefault();
      buttons[0]?.click();
      (this.#inputs[0] ?? el('call')).focus();
    }
  }

  /** Up and down go through the calls that were made. */
  #historyKey(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by || event.target.tagName === 'SELECT' || (event.target.tagName === 'TEXTAREA' && event.target.value.includes('\n'))) return;
    const next = this.#at + by;
    if (next < 0 || next >= this.#earlier.length) return;
    event.preventDefault();
    this.#at = next;
    this.select(...this.#earlier[next]);
    (this.#inputs[0] ?? el('call')).focus();
  }
}
