// A chart of one number over time.
import { el, makeSvg } from './dom.js';
import { timeOfDay } from './format.js';
import { Series, timeTicks, valueTicks } from './series.js';

const LEFT = 44;
const BOTTOM = 16;
const TOP = 6;

/**
 * Draws a series into a figure, with both axes. `step` draws a value until the next one, since it holds that long; `bars`
 * draws each sample by itself. Pointer and arrow keys read single values.
 */
export class Chart {
  /**
   * @param id the figure's; its `output` shows the value that is pointed at.
   * @param name what the number is, for screen readers.
   * @param format makes a text of a value, with its unit.
   */
  constructor(id, { name, format, kind = 'step', series = new Series() }) {
    this.figure = el(id);
    this.name = name;
    this.format = format;
    this.kind = kind;
    this.series = series;
    this.svg = makeSvg('svg', { role: 'img', tabindex: '0' });
    this.figure.prepend(this.svg);
    this.output = this.figure.querySelector('output');
    this.cursor = null; // a time that is read
    this.svg.addEventListener('pointermove', (event) => this.#read(this.#timeAt(event.offsetX)));
    this.svg.addEventListener('pointerleave', () => this.#read(null));
    this.svg.addEventListener('blur', () => this.#read(null));
    this.svg.addEventListener('keydown', (event) => this.#key(event));
  }

  /** Draw a range of time in milliseconds. */
  draw(from, to) {
    const width = this.svg.clientWidth || 300;
    const height = this.svg.clientHeight || 110;
    Object.assign(this, { from, to, width });
    const samples = this.series.between(from, to);
    const values = samples.map(([, value]) => value).filter((value) => value !== null);
    const ticks = valueTicks(Math.max(0, ...values));
    const x = (time) => LEFT + ((Math.max(time, from) - from) / (to - from)) * (width - LEFT - 2);
    const y = (value) => TOP + (1 - value / ticks.at(-1)) * (height - TOP - BOTTOM);
    const parts = [];
    for (const tick of ticks) {
      parts.push(makeSvg('line', { x1: LEFT, x2: width, y1: y(tick), y2: y(tick), class: 'grid' }));
      parts.push(makeSvg('text', { x: LEFT - 5, y: y(tick) + 4, class: 'value' }, this.format(tick)));
    }
    for (const tick of timeTicks(from, to, Math.max(2, Math.floor(width / 60)))) {
      if (x(tick) < LEFT + 16 || x(tick) > width - 18) continue;
      parts.push(makeSvg('text', { x: x(tick), y: height - 3, class: 'time' }, timeOfDay(tick, tick % 60000 !== 0)));
    }
    parts.push(...(this.kind === 'bars' ? this.#bars(samples, x, y) : this.#steps(samples, x, y)));
    const read = this.cursor === null ? undefined : this.#nearest(this.cursor);
    if (read) parts.push(makeSvg('circle', { cx: x(Math.max(read[0], from)), cy: y(read[1]), r: 4, class: 'point' }));
    this.output.textContent = read ? `${timeOfDay(read[0])}: ${this.format(read[1])}` : '';
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.setAttribute('aria-label', this.#summary(values));
    this.svg.replaceChildren(...parts);
  }

  #steps(samples, x, y) {
    const parts = [];
    let line = '';
    let begin = 0;
    const end = (time) => {
      if (!line) return;
      line += `H${x(time).toFixed(1)}`;
      parts.push(makeSvg('path', { d: `${line}V${y(0)}H${begin}Z`, class: 'area' }), makeSvg('path', { d: line, class: 'line' }));
      line = '';
    };
    for (const [time, value] of samples) {
      if (value === null) {
        end(time);
      } else if (line) {
        line += `H${x(time).toFixed(1)}V${y(value).toFixed(1)}`;
      } else {
        begin = x(time).toFixed(1);
        line = `M${begin} ${y(value).toFixed(1)}`;
      }
    }
    end(this.to);
    return parts;
  }

  #bars(samples, x, y) {
    const inside = samples.filter(([time, value]) => time >= this.from && value !== null);
    const distances = inside.slice(1).map(([time], index) => x(time) - x(inside[index][0]));
    const width = Math.max(1.5, Math.min(8, ...distances.map((one) => one - 1)));
    return inside.map(([time, value]) => makeSvg('rect', {
      x: (x(time) - width / 2).toFixed(1), y: y(value).toFixed(1), width, height: (y(0) - y(value)).toFixed(1), class: 'bar',
    }));
  }

  #timeAt(offset) {
    return this.from + ((offset - LEFT) / (this.width - LEFT - 2)) * (this.to - this.from);
  }

  #nearest(time) {
    if (this.kind !== 'bars') return this.series.at(time);
    const samples = this.series.between(this.from, this.to).filter(([, value]) => value !== null);
    return samples.sort(([one], [other]) => Math.abs(one - time) - Math.abs(other - time))[0];
  }

  #read(time) {
    this.cursor = time === null ? null : Math.min(this.to, Math.max(this.from, time));
    if (this.to) this.draw(this.from, this.to);
  }

  #key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.to) return;
    event.preventDefault();
    const times = this.series.between(this.from, this.to).filter(([, value]) => value !== null).map(([time]) => time);
    if (!times.length) return;
    const from = this.cursor ?? this.to + 1;
    const next = by < 0 ? times.findLast((time) => time < from) : times.find((time) => time > from);
    this.#read(next ?? (by < 0 ? times[0] : times.at(-1)));
  }

  #summary(values) {
    if (!values.length) return `${this.name}: nothing is known yet`;
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const range = low === high ? '' : `, between ${this.format(low)} and ${this.format(high)}`;
    return `${this.name}: ${this.format(values.at(-1))}${range}, since ${timeOfDay(this.from)}`;
  }
}
