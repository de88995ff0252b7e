// One number over time, in bounded memory, and the ticks of its axes. Nothing here knows the document.

/** How far apart samples of an age are, both in milliseconds: enough for a chart of that range. Older ones are dropped. */
const RESOLUTIONS = [[600000, 1000], [3600000, 10000], [86400000, 90000]];
const MOST_SAMPLES = 2500; // before they are thinned to those resolutions, which leave about 1800

/** Samples of a number over time. The value of a sample holds until the next one; null is a gap, in which it is unknown. */
export class Series {
  constructor() {
    this.samples = [];
  }

  /** Add a sample at a time in milliseconds. One that is earlier than the last one is put in its place. */
  add(time, value) {
    const { samples } = this;
    let at = samples.length;
    while (at > 0 && samples[at - 1][0] > time) at -= 1;
    if (value === null && (at === 0 || samples[at - 1][1] === null)) return;
    samples.splice(at, 0, [time, value]);
    if (samples.length > MOST_SAMPLES) this.samples = thinned(samples).slice(-MOST_SAMPLES + 1);
  }

  /** Begin a gap at a time, or after the last sample. */
  interrupt(time) {
    this.add(Math.max(time, this.samples.at(-1)?.[0] ?? 0), null);
  }

  /** Remove the samples with a value that fits. */
  remove(fits) {
    this.samples = this.samples.filter(([time, value]) => !fits(time, value));
  }

  /** Return the samples of a range of time, led by the one whose value holds at its begin. */
  between(from, to) {
    const first = this.samples.findIndex(([time]) => time > from);
    const begin = first < 0 ? this.samples.length : first;
    return this.samples.slice(Math.max(0, begin - 1)).filter(([time]) => time <= to);
  }

  /** Return the sample that holds at a time, or undefined in a gap. */
  at(time) {
    const found = this.samples.findLast(([one]) => one <= time);
    return found?.[1] === null ? undefined : found;
  }
}

/** Return the last sample of each stretch of time, and all gaps, so that no line is drawn through them. */
function thinned(samples) {
  const now = samples.at(-1)[0];
  const stretch = (time) => {
    const width = RESOLUTIONS.find(([age]) => now - time <= age)?.[1];
    return width && `${width} ${Math.floor(time / width)}`;
  };
  return samples.filter(([time, value], index) => {
    const own = stretch(time);
    return own && (value === null || index === samples.length - 1 || samples[index + 1][1] === null || stretch(samples[index + 1][0]) !== own);
  });
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** Return times in milliseconds for the ticks of an axis: round ones in local time, as many as there may be at most. */
export function timeTicks(from, to, most) {
  const step = 1000 * (TIME_STEPS.find((one) => (to - from) / 1000 / one <= most) ?? TIME_STEPS.at(-1));
  const shift = new Date(to).getTimezoneOffset() * 60000;
  const ticks = [];
  for (let tick = Math.ceil((from - shift) / step) * step + shift; tick <= to; tick += step) ticks.push(tick);
  return ticks;
}

/** Return round values from 0 to at least the highest one, in `count` steps at most. */
export function valueTicks(highest, count = 3) {
  if (!(highest > 0)) return [0, 1];
  const rough = highest / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const ticks = [0];
  while (ticks.at(-1) < highest) ticks.push(ticks.length * step);
  return ticks;
}

/** Return how many of the weights fall below each bound; the last count is of those above all of them. */
export function histogram(values, bounds) {
  const counts = new Array(bounds.length + 1).fill(0);
  for (const value of values) {
    const at = bounds.findIndex((bound) => value < bound);
    counts[at < 0 ? bounds.length : at] += 1;
  }
  return counts;
}
