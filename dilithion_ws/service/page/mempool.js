// The mempool: how many transactions wait, and what they pay.
import { coalesce, el, make } from './dom.js';
import { grouped, withPrefix } from './format.js';
import { histogram } from './series.js';
import { hashLink } from './tree.js';

const MOST_KNOWN = 20000; // transactions whose fees are kept
const MOST_READ = 2000; // transactions that are read at once
const MOST_CHANGES = 50;
const UNITS = 1e8; // the smallest units of a coin

export class MempoolPanel {
  #rates = new Map(); // by id: smallest units for each byte
  #size = null;

  /**
   * @param call calls a method of the node.
   * @param follow shows the transaction of a hash.
   * @param series of the number of transactions.
   */
  constructor(call, follow, series) {
    this.call = call;
    this.follow = follow;
    this.series = series;
    this.unit = 'sat/B';
  }

  /** Read what waits now. */
  async read() {
    const { size, bytes } = await this.call('getmempoolinfo', []);
    this.#count(size);
    el('mempool-bytes').textContent = withPrefix(bytes, 'B');
    if (size > MOST_READ || size === this.#rates.size) return;
    const entries = await this.call('getrawmempool', [true]);
    if (Array.isArray(entries)) return; // ids only: fees are known of what comes from now on
    this.#rates.clear();
    for (const [txid, entry] of Object.entries(entries)) {
      this.#know(txid, entry.fee ?? entry.fees?.base, entry.vsize ?? entry.size);
    }
    this.#draw();
  }

  /** Forget all: events were missed, or another user is logged in. */
  clear() {
    this.#rates.clear();
    this.#draw();
  }

  #count(size) {
    this.#size = size;
    this.series.add(Date.now(), size);
    el('waiting').textContent = `${grouped(size)} waiting`;
  }

  #know(txid, fee, size) {
    if (fee === undefined || fee === null || !size) return;
    this.#rates.set(txid, (Number(fee) * UNITS) / size);
    if (this.#rates.size > MOST_KNOWN) this.#rates.delete(this.#rates.keys().next().value);
  }

  /** Show an event. One of the history changes no numbers, since these were read afterwards. */
  change(event, isHistory) {
    const by = { added: 1, removed: -1, mined: -(event.txids?.length ?? 0) + (event.unseen ?? 0) }[event.kind] ?? 0;
    if (event.kind === 'added') this.#know(event.txid, event.fee, event.size);
    for (const txid of event.txids ?? (event.kind === 'removed' ? [event.txid] : [])) this.#rates.delete(txid);
    if (!isHistory && this.#size !== null) this.#count(Math.max(0, this.#size + by));
    this.#line(event);
    this.#draw();
  }

  #line(event) {
    const sign = event.kind === 'added' ? 'arrived' : event.kind === 'mined' ? 'mined' : event.reason ?? 'removed';
    const what = event.kind === 'mined' ? `${grouped(event.txids.length)} in block ${grouped(event.height)}` : this.#price(event);
    const line = make('li', {}, make('b', { className: event.kind }, sign), make('span', {}, what), hashLink(event.txid ?? event.hash, this.follow));
    el('mempool').prepend(line);
    while (el('mempool').childElementCount > MOST_CHANGES) el('mempool').lastChild.remove();
  }

  #price({ fee, size }) {
    if (fee === undefined || fee === null || !size) return 'fee unknown';
    return `${((Number(fee) * UNITS) / size).toFixed(1)} ${this.unit}`;
  }

  /** Draw how many transactions pay how much. */
  #draw = coalesce(() => {
    const rates = [...this.#rates.values()];
    const bounds = [1, 2, 5, 10, 20, 50, 100];
    const counts = histogram(rates, bounds);
    const most = Math.max(1, ...counts);
    el('fees').replaceChildren(...counts.map((count, index) => {
      const range = index === 0 ? `under ${bounds[0]}` : index === bounds.length ? `${bounds.at(-1)} or more` : `${bounds[index - 1]} to ${bounds[index]}`;
      const bar = make('span', { className: 'bar' });
      bar.style.setProperty('--part', `${(100 * count) / most}%`);
      return make('li', {}, make('span', {}, range), bar, make('span', {}, grouped(count)));
    }));
    el('fees-title').textContent = `Fees of ${grouped(rates.length)} known transactions, in ${this.unit}`;
  });
}
