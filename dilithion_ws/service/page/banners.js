// What is wrong at present, above everything else. Each banner goes away when its reason does.
import { el, make } from './dom.js';

const shown = new Map();

/** Show a text under a name, or nothing if the text is empty. */
export function banner(name, text, kind = 'bad') {
  const before = shown.get(name);
  if (!text) {
    before?.remove();
    shown.delete(name);
  } else if (before) {
    if (before.textContent !== text) before.textContent = text;
  } else {
    const line = make('p', { className: kind, id: `banner-${name}` }, text);
    shown.set(name, line);
    el('banners').append(line);
  }
}
