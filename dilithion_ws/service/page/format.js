// Texts for people: numbers with units, ages, short hashes. Nothing here knows the document.

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P', 'E'];

/** Return a number with three digits and a prefix of its unit: 1234500 and 'H/s' give '1.23 MH/s'. */
export function withPrefix(value, unit) {
  if (!Number.isFinite(value)) return 'unknown';
  let step = 0;
  while (Math.abs(value) >= 999.5 && step < PREFIXES.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = step === 0 && Number.isInteger(value) ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return `${value.toFixed(Math.min(digits, 6))} ${PREFIXES[step]}${unit}`.trim();
}

/** Return a whole number with separators. */
export const grouped = (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString('en') : 'unknown');

/** Return a duration in seconds as people say it: '42 s', '7 min', '3 h', '12 d'. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return 'unknown';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 100 * 60) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} d`;
}

/** Return both ends of a hash or address. */
export const shortened = (text) => (text.length > 20 ? `${text.slice(0, 8)}…${text.slice(-8)}` : text);

/** Return the local time of day of a time in milliseconds. */
export const timeOfDay = (time, withSeconds = true) =>
  new Date(time).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', ...(withSeconds && { second: '2-digit' }) });

/** Return whether a text may be the hash of a block or a transaction. */
export const isHash = (text) => /^[0-9a-f]{64}$/.test(text);
