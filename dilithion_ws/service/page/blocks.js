// The latest blocks, as objects: newest first, with details on request.
import { coalesce, copyButton, el, make } from './dom.js';
import { duration, grouped, shortened, timeOfDay, withPrefix } from './format.js';
import { hashLink, tree } from './tree.js';

const MOST_BLOCKS = 60;
const MOST_DETAILS = 8; // newest blocks whose size and miner are asked for

export class BlockList {
  #blocks = []; // newest first

  /**
   * @param call calls a method of the node.
   * @param intervals the series of seconds between blocks.
   */
  constructor(call, intervals) {
    this.call = call;
    this.intervals = intervals;
  }

  get tip() {
    return this.#blocks[0];
  }

  /** Show a block that was connected to the chain, or remove one that was disconnected. */
  change({ kind, ...block }) {
    this.#blocks = this.#blocks.filter(({ height }) => height < block.height);
    if (kind === 'connected') {
      const parent = this.#blocks[0];
      if (parent && parent.hash !== block.previousblockhash) this.#blocks = [];
      this.#blocks.unshift(block);
      this.#blocks.splice(MOST_BLOCKS);
      if (parent?.hash === block.previousblockhash) {
        // The times of headers are not in order in each chain.
        this.intervals.add(block.time * 1000, Math.max(0, block.time - parent.time));
      }
    } else {
      this.intervals.remove((time) => time === block.time * 1000);
    }
    this.#draw();
  }

  /** Forget all: the chain is read again, or another user is logged in. */
  clear() {
    this.#blocks = [];
    el('details').hidden = true;
    this.#draw();
  }

  /** Ask the node for the sizes and miners of the newest blocks. */
  async complete() {
    for (const block of this.#blocks.slice(0, MOST_DETAILS)) {
      if (block.size !== undefined || block.isAsked) continue;
      block.isAsked = true;
      try {
        const { size, miner } = await this.call('getblock', [block.hash]);
        Object.assign(block, { size, miner });
      } catch {
        block.isAsked = false; // the next reading tries again; until then the card does without
        return;
      }
      this.#draw();
    }
  }

  #draw = coalesce(() => {
    el('height').textContent = this.tip ? `height ${grouped(this.tip.height)}` : '';
    const focused = document.activeElement?.dataset?.block;
    const largest = Math.max(1, ...this.#blocks.map(({ size = 0 }) => size));
    el('blocks').replaceChildren(...this.#blocks.map((block) => {
      const button = make('button', { type: 'button' },
        make('b', {}, grouped(block.height)),
        make('time', { title: new Date(block.time * 1000).toLocaleString(), 'data-time': block.time }),
        make('span', {}, `${grouped(block.tx_count)} tx`),
        make('span', {}, block.size === undefined ? '\u00a0' : withPrefix(block.size, 'B')),
        make('small', {}, block.miner ? shortened(block.miner) : shortened(block.hash)));
      button.dataset.block = block.hash;
      button.style.setProperty('--fill', `${Math.round((100 * (block.size ?? 0)) / largest)}%`);
      button.onclick = () => this.look(block.hash);
      return make('li', {}, button);
    }));
    if (focused) el('blocks').querySelector(`[data-block="${focused}"]`)?.focus({ preventScroll: true });
    this.age();
  });

  /** Show how old the blocks are. */
  age() {
    const now = Date.now() / 1000;
    for (const shown of el('blocks').querySelectorAll('time')) {
      shown.textContent = `${duration(now - Number(shown.dataset.time))} ago`;
    }
  }

  /** Show what a hash stands for: a block, or a transaction. */
  look = async (hash) => {
    const panel = el('details');
    const body = make('div', { className: 'value' }, 'Loading …');
    const close = make('button', { type: 'button', className: 'quiet' }, 'close');
    close.onclick = () => { panel.hidden = true; };
    const title = make('h3', { tabIndex: -1 }, 'Details');
    panel.replaceChildren(make('div', { className: 'row' }, title, close), make('p', {}, make('code', {}, hash), ' ', copyButton(() => hash, 'copy the hash')), body);
    panel.hidden = false;
    title.focus();
    panel.scrollIntoView({ block: 'nearest' });
    let problem;
    for (const [method, params, name] of [['getblock', [hash], 'Block'], ['getrawtransaction', [hash, true], 'Transaction'], ['gettransaction', [hash], 'Transaction']]) {
      try {
        const found = await this.call(method, params);
        title.textContent = found.height === undefined ? name : `${name} ${grouped(found.height)}`;
        const parent = found.previousblockhash ? make('p', {}, 'Parent: ', hashLink(found.previousblockhash, this.look)) : null;
        const time = found.time ? make('p', {}, `${new Date(found.time * 1000).toLocaleDateString()} ${timeOfDay(found.time * 1000)}`) : null;
        body.replaceChildren(...[time, parent, tree(found, this.look)].filter(Boolean));
        return;
      } catch (error) {
        problem ??= error;
      }
    }
    title.textContent = 'Not found';
    body.textContent = problem.message;
  };
}
