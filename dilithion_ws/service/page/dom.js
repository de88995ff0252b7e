// Small tools for the document.

export const el = (id) => document.getElementById(id);

/** Return a new element with properties and children. Texts are never parsed as HTML. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Return a new element of an SVG. */
export function makeSvg(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Return a function that has an action done soon, once for all requests until then. */
export function coalesce(action, milliseconds = 100) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      action();
    }, milliseconds);
  };
}

/** Copy a text, and say so on the button for a moment. */
async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'copied';
  } catch {
    // Pages without TLS have no clipboard, except on this machine: select the text, so that the user can copy it.
    button.textContent = 'select and copy';
    const shown = button.previousElementSibling;
    if (shown) getSelection().selectAllChildren(shown);
  }
  setTimeout(() => { button.textContent = 'copy'; }, 1500);
}

/** Return a button that copies what a function returns. */
export function copyButton(text, label = 'copy') {
  const button = make('button', { type: 'button', className: 'quiet', 'aria-label': label });
  button.textContent = 'copy';
  button.onclick = () => copy(button, text());
  return button;
}
