/**
 * A client of dilithion_ws: calls, and events that survive a lost connection.
 *
 *     const client = new Client('ws://localhost:8333', { token });
 *     console.log(await client.call('getblockcount'));
 *     for await (const event of client.subscribe('blocks')) console.log(event.data.hash);
 *
 * One connection, renewed after pauses that grow. Each subscription remembers where it stands, and continues there over
 * the next connection. What it missed for good is an EventsLostError, never silence. The types are in client.d.ts.
 */

/** An error that the server returned for a call. */
export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.name = 'RpcError';
    this.code = code;
    this.data = data;
  }

  /** Milliseconds after which the server advises to try again, or undefined. */
  get retryAfter() {
    return this.data?.retry_after_ms;
  }
}

/** The connection was lost, or was not there in time. The server may have executed a call without an answer. */
export class ConnectionLostError extends Error {
  name = 'ConnectionLostError';
}

/** No answer came in time. The server may still execute the call. */
export class TimeoutError extends Error {
  name = 'TimeoutError';
}

/** Events were published that a subscription will never receive. Iterate again to go on behind them. */
export class EventsLostError extends Error {
  name = 'EventsLostError';

  constructor(topic, reason, since) {
    super(`events of ${topic} are lost (${reason})`);
    this.topic = topic;
    this.reason = reason;
    this.since = since;
  }
}

/** Return a param that is sent as a number with these digits, such as an amount: decimal('0.10000000'). */
export const decimal = (digits) => {
  if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(digits)) throw new TypeError(`${digits} is not a decimal number`);
  return { toJSON: () => MARK + digits };
};

const MARK = '\u0001';
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const SUBSCRIBE_AGAIN = new Set([-32002, -32005, -32007, -32009]);
const FINAL_CLOSES = new Set([4401]);
const LONGEST = 2 ** 31 - 1; // of a timer

/** JSON with BigInt, and with what `decimal` returns. */
const encode = (value) =>
  JSON.stringify(value, (key, one) => (typeof one === 'bigint' ? MARK + one : one)).replace(/"\\u0001([^"]*)"/g, '$1');

/** JSON in which integers that a double cannot hold become BigInt, and all decimal numbers strings with their digits. */
const decodeExactly = (text) => {
  const marked = text.replace(TOKEN, (token) =>
    token[0] === '"' || Number.isSafeInteger(+token) && !/[.eE]/.test(token) ? token : `"\\u0001${token}"`);
  return JSON.parse(marked, (key, one) => {
    if (typeof one !== 'string' || one[0] !== MARK) return one;
    return /[.eE]/.test(one) ? one.slice(1) : BigInt(one.slice(1));
  });
};

/** Where to resume a subscription to blocks after an event. */
const blockAfter = ({ kind, height, hash, previousblockhash }) =>
  kind === 'connected' ? { height, hash } : { height: height - 1, hash: previousblockhash };

/** A filter as the server compares it: equal ones are one subscription. */
const canonical = (filter) => Object.entries(filter ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([name, value]) => [name, [...new Set([value].flat().map(encode))].sort()]);

class Subscription {
  #client; #queue = []; #bytes = 0; #waiting = []; #failure; #params; #byPosition = false; #abort;
  id = null;
  since;
  topic;
  closed = false;
  paused = false;

  constructor(client, topic, { filter, since, mode, signal }) {
    this.#client = client;
    this.topic = topic;
    this.since = since;
    this.#params = { topic, filter, mode };
    this._key = encode([topic, canonical(filter)]);
    this.#abort = () => this.close();
    this.signal = signal;
    if (signal?.aborted) this.closed = true;
    signal?.addEventListener('abort', this.#abort, { once: true });
  }

  /** Begin, or begin again over a new connection. */
  async _start() {
    const connection = this.#client._connection;
    this.id = null;
    this.paused = false;
    try {
      await this.#client._inTurn(this._key, async () => {
        if (this.closed || this.id || connection !== this.#client._connection) return;
        const params = { ...this.#params, since: this.#byPosition ? this.position ?? undefined : this.since };
        // The server answers in any case; a second attempt before that would find the subscription there already.
        let id;
        const options = {
          timeout: LONGEST,
          onReply: (reply) => {
            id = reply.subscription;
            this.#begin(reply, params.since);
          },
        };
        await this.#client._request('subscribe', params, options);
        if (this.closed) await this.#client._endAtServer(id, connection);
      });
    } catch (error) {
      if (this.closed || error instanceof ConnectionLostError) return; // the next connection starts it again
      if (SUBSCRIBE_AGAIN.has(error.code)) this.#startLater(error);
      else this._end(error);
    }
  }

  #startLater(error) {
    const connection = this.#client._connection;
    setTimeout(() => {
      if (!this.closed && this.#client._connection === connection) this._start();
    }, error.retryAfter ?? 1000);
  }

  #begin(reply, wanted) {
    if (this.closed) return; // `_start` ends it
    this.id = reply.subscription;
    this.#client._byId.set(this.id, this);
    const now = reply.since ?? { epoch: reply.epoch, seq: reply.seq };
    if (reply.reason === 'history' && this.position) {
      // This server cannot read its chain back: then by the position in its log.
      this.#byPosition = true;
      this.#client._unsubscribe(this);
      return void this._start();
    }
    if (reply.next && wanted?.epoch) {
      this.#goOn(reply.next);
      this.#client._unsubscribe(this);
      return void this._start();
    }
    if (wanted === undefined || reply.recovered === false) {
      if (wanted !== undefined) this.#push(new EventsLostError(this.topic, reply.detail ?? reply.reason, wanted), 0);
      this.since = now;
    }
    this.position = wanted?.epoch !== undefined && reply.recovered ? wanted : reply.epoch ? { epoch: reply.epoch, seq: reply.seq } : null;
    this.replaying = wanted?.height !== undefined && reply.recovered;
  }

  /** The log has begun anew at a position, without a loss. */
  #goOn(next) {
    if (!next) return;
    this.position = next;
    if (this.since?.epoch) this.since = next;
  }

  /** Whether its reader has events to read before it is asked for more. */
  get isFull() {
    return this.paused && this.#queue.length > 0;
  }

  _receive(params, size, more) {
    if (params.error) {
      this.#client._byId.delete(this.id);
      this.#goOn(params.error.data?.next);
      const error = new RpcError(params.error);
      if (SUBSCRIBE_AGAIN.has(error.code)) this.#startLater(error);
      else this._end(error);
      return;
    }
    if (this.paused) return;
    const { topic, result: data, seq, epoch, prev, history } = params;
    if (seq !== undefined) {
      const { position } = this;
      if (!this.replaying && position?.epoch === epoch && this.#params.mode !== 'latest') {
        if (seq <= position.seq) return;
        if (prev > position.seq) this.#push(new EventsLostError(topic, 'gap', this.since), 0);
      }
      this.replaying = false;
      this.position = { epoch, seq };
    }
    if (topic === 'blocks' && this.#params.mode !== 'latest') this.since = blockAfter(data);
    else this.since = params.since ?? (seq === undefined ? this.since : this.position);
    this.#push({ topic, data, since: this.since, history: history === true }, size);
    if (more) return; // the place to resume at is that of the last event
    if (this.#queue.length >= this.#client._options.maxQueued || this.#bytes >= this.#client._options.maxQueuedBytes) {
      this.paused = true; // the server keeps the rest; see `next`
      this.#client._unsubscribe(this);
    }
  }

  #push(item, size) {
    this.#bytes += size;
    const waiting = this.#waiting.shift();
    if (waiting) this.#deliver(item, waiting);
    else this.#queue.push([item, size]);
    if (waiting) this.#bytes -= size;
  }

  #deliver(item, { resolve, reject }) {
    if (item instanceof Error) reject(item);
    else resolve({ value: item, done: false });
  }

  _end(failure) {
    if (this.closed) return;
    this.closed = true;
    this.#failure = failure;
    this.signal?.removeEventListener('abort', this.#abort);
    this.#client._forget(this);
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (failure) reject(failure);
      else resolve({ value: undefined, done: true });
    }
  }

  /** End the subscription. Events that wait are discarded. */
  close() {
    this.#queue = [];
    this._end();
  }

  next() {
    const first = this.#queue.shift();
    if (first) this.#bytes -= first[1];
    if (!this.#queue.length && this.paused && !this.closed && this.#client._connection) this._start();
    return new Promise((resolve, reject) => {
      if (first) this.#deliver(first[0], { resolve, reject });
      else if (!this.closed) this.#waiting.push({ resolve, reject });
      else if (this.#failure) reject(this.#failure);
      else resolve({ value: undefined, done: true });
    });
  }

  async return() {
    this.close();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

export class Client extends EventTarget {
  #socket = null; #nextId = 1; #replies = new Map(); #turns = new Map(); #batches = []; #subscriptions = new Set(); #ready = [];
  #attempt = 0; #timer; #heartbeat; #lastReceived = 0; #lastTick = 0; #failure; #started = false;
  /** `connecting`, `open`, `waiting` (for the next attempt) or `closed`. */
  state = 'connecting';
  /** What the server knows about the user, after a login. */
  user = null;
  _connection = null; // an object for each connection that can be used
  _byId = new Map();

  constructor(url, options = {}) {
    super();
    this.url = url;
    this._options = {
      WebSocket: globalThis.WebSocket, timeout: 30000, backoff: [500, 30000], heartbeat: 20000, exact: false,
      maxQueued: 10000, maxQueuedBytes: 16 << 20, ...options,
    };
    if (!this._options.WebSocket) {
      throw new TypeError("this platform has no WebSocket: pass one, as in { WebSocket: (await import('ws')).WebSocket }");
    }
    options.signal?.addEventListener('abort', () => this.close(), { once: true });
    if (globalThis.addEventListener && globalThis.document) {
      addEventListener('online', this.#wake);
      document.addEventListener('visibilitychange', this.#wake);
    }
    if (options.signal?.aborted) this.close();
    else this.#connect();
  }

  /** When the last message arrived, in milliseconds since 1970: what is known is of that time. */
  get lastReceived() {
    return this.#lastReceived;
  }

  // Calls

  /** Call a method. Return its result. */
  async call(method, params = [], options = {}) {
    return (await this.#answer(method, params, options)).result;
  }

  /** Call a method. Return its result, and the position of the topic whose events continue it. */
  async callWithPosition(method, params = [], options = {}) {
    const { result, position } = await this.#answer(method, params, options);
    return { result, position: position ?? null };
  }

  /** Make several calls in one message. Each result is in its place; an RpcError stands where a call failed. */
  async batch(calls, options = {}) {
    if (!calls.length) return [];
    await this.#whenReady(options);
    if (!this.#socket) throw this.#lostError();
    const requests = calls.map(([method, params = []]) => this.#request(method, params));
    const answers = requests.map(({ id }) => this.#expect(id, options).catch((error) => {
      if (error instanceof RpcError) return { result: error };
      throw error;
    }));
    const refuse = (error) => requests.forEach(({ id }) => this.#replies.get(id)?.(null, error));
    this.#batches.push(refuse);
    try {
      this.#send(requests);
      return (await Promise.all(answers)).map(({ result }) => result);
    } finally {
      this.#batches.splice(this.#batches.indexOf(refuse), 1);
    }
  }

  async #answer(method, params, options) {
    await this.#whenReady(options);
    return this._request(method, params, options);
  }

  _request(method, params, options = {}) {
    if (!this.#socket) return Promise.reject(this.#lostError());
    const request = this.#request(method, params);
    const answer = this.#expect(request.id, options);
    this.#send(request);
    return answer;
  }

  #request(method, params) {
    return { jsonrpc: '2.0', id: this.#nextId++, method, params };
  }

  #send(message) {
    this.#socket.send(encode(message));
  }

  /** Return a promise of the answer with an id. */
  #expect(id, { timeout = this._options.timeout, signal, onReply }) {
    return new Promise((resolve, reject) => {
      const settle = (use, value) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#replies.delete(id);
        use(value);
      };
      const onAbort = () => settle(reject, signal.reason);
      const timer = setTimeout(() => settle(reject, new TimeoutError(`no answer within ${timeout} ms`)), timeout);
      signal?.addEventListener('abort', onAbort);
      this.#replies.set(id, (answer, error) => {
        if (error) return settle(reject, error);
        onReply?.(answer.result); // before the next message is read
        settle(resolve, answer);
      });
    });
  }

  /** Wait until calls can be made. Raise what prevents that. */
  async ready(options = {}) {
    await this.#whenReady(options);
  }

  #lostError() {
    return this.#failure ?? new ConnectionLostError(this.state === 'closed' ? 'the client is closed' : 'the connection was lost');
  }

  #whenReady({ timeout = this._options.timeout, signal }) {
    signal?.throwIfAborted();
    if (this._connection) return undefined;
    if (this.state === 'closed') throw this.#lostError();
    return new Promise((resolve, reject) => {
      const waiting = { resolve, reject };
      const leave = (error) => {
        this.#ready = this.#ready.filter((one) => one !== waiting);
        reject(error);
      };
      const timer = setTimeout(
        () => leave(new ConnectionLostError(`no connection within ${timeout} ms; last: ${this.reason}`)), timeout);
      waiting.resolve = () => { clearTimeout(timer); resolve(); };
      waiting.reject = (error) => { clearTimeout(timer); reject(error); };
      signal?.addEventListener('abort', () => { clearTimeout(timer); leave(signal.reason); }, { once: true });
      this.#ready.push(waiting);
    });
  }

  // Subscriptions

  /** Subscribe to a topic. Iterate over the result; leaving the loop ends the subscription. */
  subscribe(topic, options = {}) {
    const subscription = new Subscription(this, topic, options);
    if (this.state === 'closed') subscription._end(this.#failure);
    if (!subscription.closed) {
      this.#subscriptions.add(subscription);
      if (this._connection) subscription._start();
    }
    return subscription;
  }

  /** Call a function with each event of a topic, and with each error. Return a function that ends that. */
  on(topic, onEvent, { onError = (error) => console.error(error), ...options } = {}) {
    const subscription = this.subscribe(topic, options);
    (async () => {
      while (!subscription.closed) {
        try {
          for await (const event of subscription) onEvent(event);
        } catch (error) {
          onError(error);
        }
      }
    })();
    return () => subscription.close();
  }

  _unsubscribe(subscription) {
    const { id, _key } = subscription;
    const connection = this._connection;
    this._byId.delete(id);
    subscription.id = null;
    if (!connection || !id) return;
    this._inTurn(_key, () => this._endAtServer(id, connection));
  }

  /** Have the server end a subscription, if necessary after some refusals. */
  async _endAtServer(id, connection) {
    while (connection === this._connection) {
      try {
        return await this._request('unsubscribe', [id], { timeout: LONGEST });
      } catch (error) {
        if (!SUBSCRIBE_AGAIN.has(error.code) || connection !== this._connection) return undefined;
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, error.retryAfter ?? 1000);
          connection.waits.add(() => { clearTimeout(timer); resolve(); });
        });
      }
    }
    return undefined;
  }

  /** Do something about a topic and filter after what is being done. The server gives equal subscriptions the same id. */
  _inTurn(key, action) {
    const before = this.#turns.get(key);
    const turn = before ? before.then(action) : action();
    const settled = turn.catch(() => {}).then(() => {
      if (this.#turns.get(key) === settled) this.#turns.delete(key);
    });
    this.#turns.set(key, settled);
    return turn;
  }

  _forget(subscription) {
    this.#subscriptions.delete(subscription);
    this._unsubscribe(subscription);
  }

  // The connection

  #connect() {
    clearTimeout(this.#timer);
    this.#show('connecting');
    const { WebSocket } = this._options;
    const socket = this.#socket = new WebSocket(this.url, ['dilithion.v1']);
    this.#lastReceived = Date.now();
    socket.onopen = () => this.#open(socket);
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onerror = (event) => { this.reason = event.message || this.reason; };
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    this.#heartbeat = setInterval(() => this.#beat(), this._options.heartbeat / 4);
    this.#lastTick = Date.now();
  }

  async #open(socket) {
    try {
      const { credentials, token, user, password } = this._options;
      const given = credentials ? await credentials() : token ? ['__token__', token] : user ? [user, password] : null;
      if (socket !== this.#socket) return;
      if (given) this.user = (await this._request('authenticate', given)).result;
    } catch (error) {
      if (error.code === -32001) this.#fail(error);
      else if (socket === this.#socket) socket.close();
      return;
    }
    if (socket !== this.#socket) return;
    this.#attempt = 0;
    this.reason = undefined;
    this._connection = { waits: new Set() };
    this.#show('open');
    for (const { resolve } of this.#ready.splice(0)) resolve();
    for (const subscription of this.#subscriptions) if (!subscription.isFull) subscription._start();
  }

  #receive(text) {
    this.#lastReceived = Date.now();
    let message;
    try {
      message = this._options.exact ? decodeExactly(text) : JSON.parse(text);
    } catch {
      return; // what the host has broadcast
    }
    const messages = Array.isArray(message) ? message : [message];
    if (messages[0]?.method === 'subscription') {
      // All events of a block about a subscription to `transactions` come together, so none of them can be missing.
      const size = text.length / messages.length;
      messages.forEach(({ params }, index) => {
        this._byId.get(params?.subscription)?._receive(params, size, index < messages.length - 1);
      });
      return;
    }
    for (const answer of messages) {
      if (answer?.id === null && answer.error) this.#batches[0]?.(new RpcError(answer.error)); // a batch as a whole
      this.#replies.get(answer?.id)?.(answer, answer.error && new RpcError(answer.error));
    }
  }

  /** Notice connections that are dead without a word: after the sleep of a laptop, or behind a network that is gone. */
  #beat() {
    const { heartbeat } = this._options;
    const now = Date.now();
    const slept = now - this.#lastTick > heartbeat;
    this.#lastTick = now;
    const silence = now - this.#lastReceived;
    if (silence >= heartbeat * 2 && !slept) this.#lost(1006, `nothing received for ${silence} ms`);
    else if (this._connection && (slept || silence >= heartbeat)) this.#probe();
  }

  #probe() {
    const socket = this.#socket;
    this._request('rpc.ping', [], { timeout: this._options.heartbeat / 2 }).catch((error) => {
      if (error instanceof TimeoutError && socket === this.#socket) this.#lost(1006, 'no answer to a ping');
    });
  }

  #wake = () => {
    if (this.state === 'waiting') this.#connect();
    else if (this._connection && document.visibilityState === 'visible') this.#probe();
  };

  #lost(code, reason) {
    if (!this.#socket) return;
    this.reason = reason || this.reason || `closed with ${code}`;
    this.#drop(new ConnectionLostError(`the connection was lost: ${this.reason}`));
    if (FINAL_CLOSES.has(code)) return void this.#fail(new RpcError({ code: -32001, message: reason || 'not authenticated' }));
    const [first, longest] = this._options.backoff;
    const pause = Math.min(longest, first * 2 ** this.#attempt++);
    this.#timer = setTimeout(() => this.#connect(), pause * (0.5 + Math.random() / 2));
    this.#show('waiting');
  }

  /** Leave the socket, and reject the calls whose answers it owed. */
  #drop(error) {
    const socket = this.#socket;
    const connection = this._connection;
    this.#socket = this._connection = null;
    this.#turns.clear(); // what is under way there looks at the connection
    for (const stop of connection?.waits ?? []) stop();
    clearInterval(this.#heartbeat);
    this._byId.clear();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => {};
      socket.close();
    }
    for (const reply of [...this.#replies.values()]) reply(null, error);
  }

  /** End everything: no other connection will be made. */
  #fail(error) {
    if (this.state === 'closed') return;
    this.#failure = error;
    clearTimeout(this.#timer);
    this.#drop(error ?? new ConnectionLostError('the client is closed'));
    this.#show('closed');
    for (const { reject } of this.#ready.splice(0)) reject(this.#lostError());
    for (const subscription of this.#subscriptions) subscription._end(error);
    if (globalThis.document) {
      removeEventListener('online', this.#wake);
      document.removeEventListener('visibilitychange', this.#wake);
    }
  }

  /** Close the connection, and end all subscriptions. */
  close() {
    this.#fail();
  }

  #show(state) {
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}
