// The server's own numbers, for those who may see them.
import { el, make } from './dom.js';
import { duration, grouped, withPrefix } from './format.js';

const sum = (values) => values.reduce((one, other) => one + other, 0);

export class ServerPanel {
  #before = null;

  /** @param series of calls for each second. */
  constructor(series) {
    this.series = series;
  }

  /** Show statistics, as `rpc.statistics` returns them. */
  show(found) {
    const now = performance.now();
    const calls = sum(Object.values(found.methods).map(({ succeeded, failed }) => succeeded + failed));
    const before = this.#before;
    this.#before = { now, calls };
    const rate = before && calls >= before.calls ? (calls - before.calls) / ((now - before.now) / 1000) : null;
    if (rate !== null) this.series.add(Date.now(), rate);
    const topics = Object.values(found.topics);
    el('server').hidden = false;
    el('version').textContent = `dilithion_ws ${found.version}, up for ${duration(found.uptime)}`;
    this.#table('numbers', [
      ['Connections', grouped(sum(Object.values(found.connections.by_state)))],
      ['Subscriptions', grouped(sum(topics.map(({ subscriptions }) => subscriptions)))],
      ['Calls', rate === null ? '…' : `${withPrefix(rate, '')}/s`],
      ['Calls that wait', grouped(sum(Object.values(found.jobs).map(({ queued }) => queued)))],
      ['Largest lag', `${grouped(Math.max(0, ...topics.map(({ max_lag: lag }) => lag)))} events`],
      ['Refusals', grouped(sum(Object.values(found.refusals)))],
      ['Sent', withPrefix(found.connections.bytes_sent, 'B')],
    ]);
    const slowest = Object.entries(found.methods).sort(([, one], [, other]) => other.seconds - one.seconds).slice(0, 5);
    this.#table('slowest', slowest.map(([name, { succeeded, failed, seconds, speed }]) => [
      name, `${grouped(succeeded + failed)} calls, ${((1000 * seconds) / Math.max(1, succeeded + failed)).toFixed(1)} ms, ${speed.replace('_', ' ')}`,
    ]));
  }

  #table(id, rows) {
    el(id).replaceChildren(...rows.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))));
  }

  /** The connection is lost: what is counted next belongs to another server, perhaps. */
  interrupt() {
    this.#before = null;
    this.series.interrupt(Date.now());
  }

  hide() {
    el('server').hidden = true;
    this.interrupt();
  }
}
