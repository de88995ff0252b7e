// Tests of the client for JavaScript. tests/javascript/test_client.py starts the servers, and runs this by `node --test`.
import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';

const { CLIENT, WS, URL_OPEN, URL_USERS, TOKEN } = process.env;
const { Client, ConnectionLostError, EventsLostError, RpcError, TimeoutError, decimal } = await import(CLIENT);
const { WebSocket } = await import(WS);

/** Run a test with a client that is closed afterwards. */
const withClient = (name, options, body) => test(name, { timeout: 20000 }, async () => {
  const client = new Client(options.url ?? URL_OPEN, { WebSocket, backoff: [10, 100], ...options });
  try {
    await body(client);
  } finally {
    client.close();
  }
});

const block = (height, kind = 'connected') => ({
  kind, height, hash: `h${height}`, previousblockhash: `h${height - 1}`, time: 1, tx_count: 1,
});

withClient('calls by position, by name and without params', {}, async (client) => {
  assert.equal(await client.call('add', [2, 3]), 5);
  assert.equal(await client.call('add', { a: 4, b: 5 }), 9);
  assert.equal(await client.call('rpc.ping'), true);
});

withClient('the time of the last message is known', {}, async (client) => {
  const before = Date.now();
  await client.call('rpc.ping');
  assert.ok(client.lastReceived >= before && client.lastReceived <= Date.now());
});

withClient('errors have code and data', {}, async (client) => {
  await assert.rejects(client.call('fail'), (error) => {
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.code, error.message, error.data], [-7, 'broken', { why: 'test' }]);
    return true;
  });
  await assert.rejects(client.call('nosuch'), { code: -32601 });
});

withClient('a batch has each result in its place', {}, async (client) => {
  const [sum, failed, last] = await client.batch([['add', [1, 1]], ['fail'], ['add', { a: 2, b: 2 }]]);
  assert.deepEqual([sum, failed.code, last], [2, -7, 4]);
  assert.deepEqual(await client.batch([]), []);
  const many = await client.batch(Array.from({ length: 101 }, () => ['rpc.ping']));
  assert.deepEqual([many.length, many[0].code], [101, -32010]);
});

withClient('a position comes with the answers that have one', {}, async (client) => {
  const { result, position } = await client.callWithPosition('state');
  assert.equal(result, 'state');
  assert.equal(position.topic, 'mempool');
  const events = client.subscribe('mempool', { since: position });
  await client.call('remove_soon', ['aa']);
  assert.equal((await events.next()).value.data.txid, 'aa');
  await events.return();
  assert.equal((await client.callWithPosition('rpc.ping')).position, null);
});

withClient('a call times out, and its late answer is ignored', {}, async (client) => {
  await assert.rejects(client.call('slow', [0.3], { timeout: 50 }), TimeoutError);
  assert.equal(await client.call('slow', [0.4]), 'slow');
});

withClient('signals abort calls, also those that wait for a connection', {}, async (client) => {
  const abort = new AbortController();
  const call = client.call('slow', [5], { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(call, { name: 'AbortError' });
  await assert.rejects(client.call('slow', [5], { signal: AbortSignal.abort() }), { name: 'AbortError' });
  assert.equal(await client.call('rpc.ping'), true);
  const away = new Client('ws://127.0.0.1:1', { WebSocket });
  const waiting = away.call('rpc.ping', [], { signal: AbortSignal.timeout(50) });
  await assert.rejects(waiting, { name: 'TimeoutError' });
  away.close();
});

withClient('numbers are exact if that is wanted', { exact: true }, async (client) => {
  const sent = [2n ** 70n, decimal('0.10000000'), decimal('1e-8'), 5, 'text 1.0 "quoted" \\ 2', [1.5], { a: -0.5 }];
  assert.deepEqual(await client.call('echo', [sent]), [
    2n ** 70n, '0.10000000', '1e-8', 5, 'text 1.0 "quoted" \\ 2', ['1.5'], { a: '-0.5' },
  ]);
  assert.throws(() => decimal('1; drop'), TypeError);
});

withClient('without that they are numbers', {}, async (client) => {
  assert.deepEqual(await client.call('echo', [[0.5, 7]]), [0.5, 7]);
});

withClient('events arrive in order, and leaving the loop ends the subscription', {}, async (client) => {
  const seen = [];
  const peers = client.subscribe('peers');
  await client.call('publish_soon', ['peers', 3]);
  for await (const { topic, data, since } of peers) {
    seen.push(data.id);
    assert.equal(topic, 'peers');
    assert.equal(typeof since.epoch, 'string');
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(await client.call('subscriptions'), []);
});

withClient('a callback gets events until it is taken away', {}, async (client) => {
  const seen = [];
  const stop = client.on('peers', ({ data }) => seen.push(data.id));
  await client.call('publish_soon', ['peers', 2]);
  while (seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  stop();
  await client.call('publish_soon', ['peers', 2]);
  assert.deepEqual(seen, [1, 2]);
});

withClient('a subscription continues after a lost connection', {}, async (client) => {
  const peers = client.subscribe('peers');
  await client.call('publish_soon', ['peers', 2]);
  assert.equal((await peers.next()).value.data.id, 1);
  await client.call('lose_me').catch((error) => assert.ok(error instanceof ConnectionLostError));
  await client.call('publish_soon', ['peers', 1]);
  assert.equal((await peers.next()).value.data.id, 2);
  assert.equal((await peers.next()).value.data.id, 1);
});

withClient('what is lost is an error, after which it goes on', {}, async (client) => {
  const peers = client.subscribe('peers');
  await client.call('publish_soon', ['peers', 1]);
  await peers.next();
  const { since } = peers;
  await client.call('new_epoch', ['peers']);
  await assert.rejects(peers.next(), (error) => {
    assert.ok(error instanceof EventsLostError);
    assert.deepEqual([error.topic, error.reason, error.since], ['peers', 'epoch', since]);
    return true;
  });
  await client.call('publish_soon', ['peers', 1]);
  assert.equal((await peers.next()).value.data.id, 1);
});

withClient('slow readers leave the rest with the server', { maxQueued: 5 }, async (client) => {
  const peers = client.subscribe('peers');
  await client.call('publish_soon', ['peers', 40]);
  await client.call('slow', [0.2]);
  assert.deepEqual(await client.call('subscriptions'), []);
  for (let id = 1; id <= 40; id += 1) assert.equal((await peers.next()).value.data.id, id);
});

withClient('blocks resume at a block, however old', {}, async (client) => {
  const blocks = client.subscribe('blocks', { since: { height: 5, hash: '05' } });
  for (const height of [6, 7, 8]) {
    const { value } = await blocks.next();
    assert.deepEqual([value.data.height, value.history], [height, true]);
    assert.deepEqual(value.since, { height, hash: value.data.hash });
  }
});

withClient('a refused subscription is an error of its iteration', {}, async (client) => {
  await assert.rejects(client.subscribe('nosuch').next(), { code: -32602 });
  const aborted = client.subscribe('peers', { signal: AbortSignal.abort() });
  assert.deepEqual(await aborted.next(), { value: undefined, done: true });
  const abort = new AbortController();
  const peers = client.subscribe('peers', { signal: abort.signal });
  const next = peers.next();
  await client.call('rpc.ping');
  abort.abort();
  assert.deepEqual(await next, { value: undefined, done: true });
});

withClient('a closed client ends everything', {}, async (client) => {
  await client.ready();
  const call = client.call('slow', [5]);
  const peers = client.subscribe('peers').next();
  client.close();
  await assert.rejects(call, ConnectionLostError);
  assert.deepEqual(await peers, { value: undefined, done: true });
  await assert.rejects(client.call('rpc.ping'), ConnectionLostError);
  assert.equal(client.state, 'closed');
});

withClient('a password, and who one is', { url: URL_USERS, user: 'alice', password: 'alicealice' }, async (client) => {
  await client.ready();
  assert.deepEqual(client.user, { user: 'alice', role: 'admin' });
});

withClient('a token', { url: URL_USERS, token: TOKEN }, async (client) => {
  assert.equal(await client.call('add', [1, 1]), 2);
});

withClient('a function that returns credentials', {
  url: URL_USERS, credentials: async () => ['alice', 'alicealice'],
}, async (client) => {
  assert.equal(await client.call('add', [1, 1]), 2);
});

withClient('wrong credentials end the client', { url: URL_USERS, user: 'alice', password: 'wrong' }, async (client) => {
  await assert.rejects(client.call('add', [1, 1]), { code: -32001 });
  assert.equal(client.state, 'closed');
  await assert.rejects(client.subscribe('peers').next(), { code: -32001 });
});

test('a connection that is dead without a word is noticed', { timeout: 20000 }, async () => {
  const target = Number(new URL(URL_OPEN).port);
  const sockets = new Set();
  let dead = false;
  const proxy = net.createServer((client) => {
    const server = net.connect(target, '127.0.0.1');
    sockets.add(client).add(server);
    for (const [from, to] of [[client, server], [server, client]]) {
      from.on('data', (data) => { if (!dead || !sockets.has(from)) to.write(data); });
      from.on('error', () => {}).on('close', () => to.destroy());
    }
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const client = new Client(`ws://127.0.0.1:${proxy.address().port}`, { WebSocket, heartbeat: 200, backoff: [10, 50] });
  await client.ready();
  dead = true;
  await new Promise((resolve) => {
    client.addEventListener('state', () => { if (client.state === 'waiting') resolve(); });
  });
  dead = false;
  assert.equal(await client.call('rpc.ping'), true);
  client.close();
  for (const socket of sockets) socket.destroy();
  proxy.close();
});

test('an address without a server is a reason', { timeout: 20000 }, async () => {
  const client = new Client('ws://127.0.0.1:1', { WebSocket });
  await assert.rejects(client.call('rpc.ping', [], { timeout: 100 }), /no connection within 100 ms; last: .*ECONNREFUSED/);
  client.close();
});

test('a platform without WebSocket is told what to do', () => {
  assert.throws(() => new Client('ws://x', { WebSocket: null }), /pass one/);
});

/** A server's end of one connection, as a test plays it. */
class Peer {
  static last;
  requests = [];
  constructor() {
    Peer.last = this;
    queueMicrotask(() => this.onopen());
  }

  send(text) { this.requests.push(JSON.parse(text)); }

  close() {}

  receive(message) { this.onmessage({ data: JSON.stringify({ jsonrpc: '2.0', ...message }) }); }

  async next(method) {
    while (!this.requests.length) await new Promise((resolve) => setTimeout(resolve, 1));
    const request = this.requests.shift();
    assert.equal(request.method, method);
    return request;
  }

  async silence(milliseconds) {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    assert.deepEqual(this.requests, []);
  }

  accept({ id }, more = {}) { this.receive({ id, result: { subscription: 't', epoch: 'e', seq: 0, ...more } }); }

  event(seq) {
    this.receive({ method: 'subscription', params: { subscription: 't', topic: 't', epoch: 'e', seq, prev: seq - 1, result: seq } });
  }
}

const BUSY = { code: -32005, message: 'slow down', data: { retry_after_ms: 20 } };

test('a pause ends when the server has really ended the subscription', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer, maxQueued: 2 });
  const events = client.subscribe('t');
  await client.ready();
  const peer = Peer.last;
  peer.accept(await peer.next('subscribe'));
  peer.event(1);
  peer.event(2);
  peer.receive({ id: (await peer.next('unsubscribe')).id, error: BUSY });
  assert.deepEqual([(await events.next()).value.data, (await events.next()).value.data], [1, 2]);
  const third = events.next();
  const again = await peer.next('unsubscribe');
  await peer.silence(30);
  peer.receive({ id: again.id, result: true });
  const request = await peer.next('subscribe');
  assert.deepEqual(request.params.since, { epoch: 'e', seq: 2 });
  peer.accept(request, { seq: 3, recovered: true });
  peer.event(3);
  assert.equal((await third).value.data, 3);
  client.close();
});

test('a few large events fill the queue as many small ones do', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer, maxQueuedBytes: 1 });
  client.subscribe('t');
  await client.ready();
  const peer = Peer.last;
  peer.accept(await peer.next('subscribe'));
  peer.event(1);
  await peer.next('unsubscribe');
  client.close();
});

test('a call is never sent again: the server may have executed it', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer, backoff: [5, 5] });
  await client.ready();
  const first = Peer.last;
  const call = client.call('sendtoaddress', ['D1', 1]);
  await first.next('sendtoaddress');
  first.onclose({ code: 1006 });
  await assert.rejects(call, ConnectionLostError);
  await client.ready();
  assert.notEqual(Peer.last, first);
  await Peer.last.silence(30);
  client.close();
});

test('when a page becomes visible its connection is checked, or made, at once', async () => {
  const page = { document: Object.assign(new EventTarget(), { visibilityState: 'visible' }) };
  Object.assign(globalThis, page, { addEventListener() {}, removeEventListener() {} });
  try {
    const client = new Client('ws://peer', { WebSocket: Peer, backoff: [60000, 60000] });
    await client.ready();
    const first = Peer.last;
    document.dispatchEvent(new Event('visibilitychange'));
    first.receive({ id: (await first.next('rpc.ping')).id, result: true });
    first.onclose({ code: 1006 });
    document.dispatchEvent(new Event('visibilitychange'));
    await client.ready();
    assert.notEqual(Peer.last, first);
    client.close();
  } finally {
    for (const name of ['document', 'addEventListener', 'removeEventListener']) delete globalThis[name];
  }
});

test('an equal subscription waits until the server has ended the first', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer });
  await client.ready();
  const peer = Peer.last;
  client.subscribe('t').close(); // before it was answered
  const second = client.subscribe('t');
  const first = await peer.next('subscribe');
  await peer.silence(10);
  peer.accept(first);
  peer.receive({ id: (await peer.next('unsubscribe')).id, result: true });
  peer.accept(await peer.next('subscribe'));
  peer.event(1);
  assert.equal((await second.next()).value.data, 1);
  client.close();
});

test('a filter is the same however it is written', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer });
  await client.ready();
  const peer = Peer.last;
  client.subscribe('t', { filter: { a: 1n, b: ['y', 'x'] } }).close();
  const second = client.subscribe('t', { filter: { b: ['x', 'y', 'x'], a: [1] } });
  const first = await peer.next('subscribe');
  await peer.silence(10);
  peer.accept(first);
  const ending = await peer.next('unsubscribe');
  assert.deepEqual(ending.params, ['t']);
  peer.receive({ id: ending.id, error: { ...BUSY, data: { retry_after_ms: 60000 } } });
  peer.onclose({ code: 1006, reason: '' }); // the wait ends with the connection, too
  while (Peer.last === peer) await new Promise((resolve) => setTimeout(resolve, 5));
  Peer.last.accept(await Peer.last.next('subscribe'));
  Peer.last.event(1);
  assert.equal((await second.next()).value.data, 1);
  client.close();
});

test('a reader that has read all while there was no connection gets what comes later', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer, maxQueued: 2, backoff: [20, 20] });
  const events = client.subscribe('t');
  await client.ready();
  const peer = Peer.last;
  peer.accept(await peer.next('subscribe'));
  peer.event(1);
  peer.event(2);
  peer.onclose({ code: 1006, reason: '' });
  assert.deepEqual([(await events.next()).value.data, (await events.next()).value.data], [1, 2]);
  const third = events.next();
  while (Peer.last === peer) await new Promise((resolve) => setTimeout(resolve, 5));
  Peer.last.accept(await Peer.last.next('subscribe'), { seq: 3, recovered: true });
  Peer.last.event(3);
  assert.equal((await third).value.data, 3);
  client.close();
});

test('a log that begins again without a loss is followed without one', async () => {
  const client = new Client('ws://peer', { WebSocket: Peer });
  const events = client.subscribe('t');
  await client.ready();
  const peer = Peer.last;
  peer.accept(await peer.next('subscribe'));
  peer.event(1);
  const next = { epoch: 'f', seq: 0 };
  const error = { code: -32007, message: 'gone', data: { reason: 'epoch', epoch: 'e', seq: 1, next, retry_after_ms: 1 } };
  peer.receive({ method: 'subscription', params: { subscription: 't', topic: 't', error } });
  let request = await peer.next('subscribe');
  assert.deepEqual(request.params.since, next);
  peer.accept(request, { epoch: 'f', seq: 2, recovered: false, reason: 'epoch', next: { epoch: 'g', seq: 0 } });
  peer.receive({ id: (await peer.next('unsubscribe')).id, result: true });
  request = await peer.next('subscribe');
  assert.deepEqual(request.params.since, { epoch: 'g', seq: 0 });
  peer.accept(request, { epoch: 'g', seq: 1, recovered: true });
  peer.receive({ method: 'subscription', params: { subscription: 't', topic: 't', epoch: 'g', seq: 1, prev: 0, result: 2 } });
  assert.deepEqual([(await events.next()).value.data, (await events.next()).value.data], [1, 2]);
  client.close();
});
