// A value of JSON as a tree whose branches can be closed.
import { copyButton, make } from './dom.js';
import { isHash, shortened } from './format.js';

const CHUNK = 100; // members that are shown at once

/** Return a hash that can be followed and copied. */
export function hashLink(hash, follow) {
  const link = make('button', { type: 'button', className: 'hash', title: hash }, shortened(hash));
  link.onclick = () => follow(hash);
  return make('span', { className: 'pair' }, link, copyButton(() => hash, `copy ${hash}`));
}

/** Return an element that shows a value. `follow` is called with a hash that the user wants to look at. */
export function tree(value, follow, isOpen = true) {
  if (value === null || typeof value !== 'object') return leaf(value, follow);
  const members = Array.isArray(value) ? value.map((one, index) => [index, one]) : Object.entries(value);
  const label = Array.isArray(value) ? `[${members.length}]` : `{${members.length}}`;
  if (!members.length) return make('code', {}, Array.isArray(value) ? '[]' : '{}');
  const list = make('ul');
  const branch = make('details', { open: isOpen }, make('summary', {}, label), list);
  const show = () => {
    list.querySelector(':scope > .more')?.remove();
    const begin = list.childElementCount;
    for (const [name, one] of members.slice(begin, begin + CHUNK)) {
      list.append(make('li', {}, make('span', { className: 'name' }, `${name}: `), tree(one, follow, members.length < 20)));
    }
    const left = members.length - begin - CHUNK;
    if (left > 0) {
      const more = make('button', { type: 'button', className: 'quiet' }, `${left} more`);
      more.onclick = () => list.children[show()]?.querySelector('button, summary')?.focus();
      list.append(make('li', { className: 'more' }, more));
    }
    return begin;
  };
  if (isOpen) show();
  else branch.addEventListener('toggle', () => { if (!list.childElementCount) show(); });
  return branch;
}

function leaf(value, follow) {
  if (typeof value === 'string' && isHash(value)) return hashLink(value, follow);
  const kind = value === null ? 'null' : typeof value;
  return make('code', { className: kind }, kind === 'string' ? JSON.stringify(value) : String(value));
}
