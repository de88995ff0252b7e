// The page: one connection, its topics, and the panels that show them.
import { banner } from './banners.js';
import { BlockList } from './blocks.js';
import { Chart } from './chart.js';
import { Client, EventsLostError } from './client.js';
import { coalesce, el, make } from './dom.js';
import { duration, grouped, timeOfDay, withPrefix } from './format.js';
import { LoginDialog } from './login.js';
import { MempoolPanel } from './mempool.js';
import { MethodBrowser } from './methods.js';
import { Series } from './series.js';
import { ServerPanel } from './server.js';

const HISTORY_BLOCKS = 24;
const HISTORY_EVENTS = 30;
const MOST_LINES = 50;
const LOST_SECONDS = 6; // for which a loss of events is shown
const READ_SECONDS = 60; // between two readings of what events do not carry
const SERVER_SECONDS = 5;
const ADDRESS = new URL('.', location.href).href.replace(/^http/, 'ws');

let client = null;
let range = 600; // seconds
let lostAt = 0;
const series = { mempool: new Series(), peers: new Series(), mining: new Series(), intervals: new Series(), calls: new Series() };
const call = (method, params = []) => client.call(method, params);
const blocks = new BlockList(call, series.intervals);
const mempool = new MempoolPanel(call, blocks.look, series.mempool);
const server = new ServerPanel(series.calls);
const browser = new MethodBrowser(call, blocks.look);
const dialog = new LoginDialog(logIn);
const charts = [
  new Chart('c-intervals', { name: 'Seconds between blocks', format: duration, kind: 'bars', series: series.intervals }),
  new Chart('c-mempool', { name: 'Transactions that wait', format: (value) => withPrefix(value, ''), series: series.mempool }),
  new Chart('c-mining', { name: 'Hash rate', format: (value) => withPrefix(value, 'H/s'), series: series.mining }),
  new Chart('c-peers', { name: 'Peers', format: grouped, series: series.peers }),
  new Chart('c-calls', { name: 'Calls for each second', format: (value) => withPrefix(value, ''), series: series.calls }),
];

/** Connect, as a user or without a login. */
function start(login = {}) {
  const before = client;
  const mine = client = new Client(ADDRESS, { backoff: [500, 15000], ...login });
  before?.close();
  mine.hasLogin = Boolean(login.user || login.token);
  mine.followed = new Set();
  mine.addEventListener('state', () => mine === client && showState());
  mine.ready({ timeout: 2 ** 31 - 1 }).catch((error) => mine === client && refused(error));
}

/** Show what the server has, each time that there is a connection. */
async function greet(mine) {
  try {
    const topics = await mine.call('topics');
    if (mine !== client) return;
    dialog.done(mine.user);
    banner('error', '');
    for (const topic of topics) {
      if (!(topic.topic in handlers) || mine.followed.has(topic.topic)) continue;
      mine.followed.add(topic.topic);
      follow(mine, topic);
    }
    for (const name of ['mempool', 'peers', 'mining']) {
      el(`s-${name}`).classList.toggle('denied', !topics.some(({ topic }) => topic === name));
    }
    browser.show(await mine.call('rpc.discover'));
  } catch (error) {
    if (mine !== client) return;
    if (error.code === -32001) return refused(error);
    banner('error', `The server can't say what it has: ${error.message}. Trying again …`);
    setTimeout(() => mine === client && mine.state === 'open' && greet(mine), error.retryAfter ?? 2000);
  }
}

/** The server wants a login, or ended the one that there was. Nothing is tried again before the user has answered. */
function refused(error) {
  const { hasLogin } = client;
  client.close();
  if (!hasLogin) return dialog.open('');
  // What this user was allowed to see is not for the next one.
  browser.forget();
  server.hide();
  blocks.clear();
  mempool.clear();
  for (const list of document.querySelectorAll('.lines')) list.replaceChildren();
  el('who').textContent = '';
  dialog.open(`You were logged out: ${error.message}`);
}

/** Try a login by itself, so that its reason can be shown in the dialog, and connect with it. */
async function logIn(login) {
  const trial = new Client(ADDRESS);
  try {
    await trial.call('authenticate', login.token ? ['__token__', login.token] : [login.user, login.password]);
    start(login);
  } catch (error) {
    dialog.open(error.message, error);
  } finally {
    trial.close();
  }
}

el('log-out').onclick = () => {
  location.reload(); // which forgets the login, and all that it was allowed to show
};

function showState() {
  const { state } = client;
  const isOpen = state === 'open';
  el('state').textContent = { connecting: 'connecting', open: 'connected', waiting: 'disconnected', closed: 'not connected' }[state];
  el('state').className = isOpen ? 'open' : state === 'connecting' ? '' : 'lost';
  document.body.classList.toggle('stale', !isOpen);
  if (isOpen) {
    lostAt = 0;
    banner('connection', '');
    greet(client);
    read();
    readServer();
    return;
  }
  if (!lostAt) {
    lostAt = client.lastReceived; // a dead link is noticed later
    for (const one of Object.values(series)) if (one !== series.intervals) one.interrupt(lostAt);
    server.interrupt();
  }
  if (state === 'closed' && client.hasLogin) dialog.open('You were logged out.');
  if (state === 'waiting') {
    banner('connection', `The connection is lost (${client.reason}). What is shown is as of ${timeOfDay(lostAt)}. Connecting again …`);
  }
}

/** Show the events of a topic: some of the past, and all that come. */
async function follow(mine, { topic, epoch, seq, first }) {
  const past = { epoch, seq: Math.max(first - 1, seq - HISTORY_EVENTS) };
  let isPast = true;
  let triesChain = false;
  let options = { since: past };
  if (topic === 'node') options = {};
  if (topic === 'blocks') {
    const height = await mine.call('getblockcount').catch(() => null);
    if (height !== null) {
      options = { since: { height: Math.max(0, height - HISTORY_BLOCKS) } };
      triesChain = true;
    }
  }
  let subscription = mine.subscribe(topic, options);
  while (!subscription.closed) {
    try {
      for await (const event of subscription) {
        if (isPast && (event.since?.epoch !== epoch || event.since.seq > seq)) isPast = false;
        handlers[topic](event.data, isPast && topic !== 'blocks' && topic !== 'node');
      }
    } catch (error) {
      if (mine !== client) return;
      if (error instanceof EventsLostError) {
        if (triesChain && !blocks.tip) {
          // This host cannot read its chain back: then by what the server remembers.
          triesChain = false;
          subscription.close();
          subscription = mine.subscribe(topic, { since: past });
          continue;
        }
        // Numbers are read again, and blocks too if possible. What a list misses is marked where it is missing.
        banner(`lost-${topic}`, `Events of ${topic} were missed (${error.reason}). What follows is complete again.`, 'warn');
        setTimeout(() => banner(`lost-${topic}`, ''), LOST_SECONDS * 1000);
        if (topic === 'blocks') {
          blocks.clear();
          if (triesChain) {
            subscription.close();
            const height = await mine.call('getblockcount').catch(() => null);
            subscription = mine.subscribe(topic, height === null ? {} : { since: { height: Math.max(0, height - HISTORY_BLOCKS) } });
          }
        }
        if (topic === 'mempool') mempool.clear();
        line(topic, ['…', 'events are missing here']);
        read();
      } else if (error.code === -32001) {
        return refused(error);
      }
    }
  }
}

/** Put a line of texts or elements at the head of a list. */
function line(list, parts) {
  const target = list === 'mempool' ? el('mempool') : el(`l-${list}`);
  if (!target) return; // blocks are read again
  target.prepend(make('li', {}, ...parts.map((part, index) => make(index ? 'span' : 'b', {}, part))));
  while (target.childElementCount > MOST_LINES) target.lastChild.remove();
}

const peers = (count) => {
  series.peers.add(Date.now(), count);
  el('peercount').textContent = `${grouped(count)} connected`;
};
const hashRate = ({ hashrate, networkhashps }) => {
  const value = hashrate ?? networkhashps;
  if (!Number.isFinite(value)) return;
  series.mining.add(Date.now(), value);
  el('hashrate').textContent = withPrefix(value, 'H/s');
};

const handlers = {
  blocks(event) {
    blocks.change(event);
    if (event.kind === 'connected') later();
  },
  mempool: (event, isPast) => mempool.change(event, isPast),
  peers(event, isPast) {
    line('peers', [event.kind, event.addr, event.inbound === undefined ? '' : event.inbound ? 'inbound' : 'outbound']);
    if (!isPast && event.peers !== undefined) peers(event.peers);
  },
  mining(event, isPast) {
    if (event.kind !== 'hashrate') return line('mining', [event.kind.replace('_', ' '), event.height === undefined ? '' : `height ${grouped(event.height)}`]);
    if (!isPast) hashRate(event);
  },
  // In a gateway only. While its node is down, what the page shows may be old.
  node(event) {
    const wasDown = document.body.classList.contains('node-down');
    document.body.classList.toggle('node-down', event.kind === 'down');
    if (event.kind === 'down') for (const name of ['mempool', 'peers', 'mining']) series[name].interrupt(Date.now());
    else if (wasDown) later(); // and only then, since each reading reports the state, too
    banner('node', {
      up: '',
      down: `The node behind this gateway is down: ${event.reason}. What is shown here may be old.`,
      syncing: `The node behind this gateway is syncing: block ${grouped(event.blocks)} of ${grouped(event.headers)}.`,
    }[event.kind]);
  },
};

/** Where the server keeps its events. While it can't, they are lost when the server ends. */
async function readStore() {
  const { store } = await (await fetch('health')).json();
  banner('store', !store || store.good ? '' : store.kind === 'redis'
    ? `The event store (Redis) can't be used: ${store.fault}. New events wait.`
    : `The event store can't be used: ${store.fault}. Events are kept in memory only.`);
}

/** Read what events do not carry. A method that the node has not is left out. */
async function read() {
  await Promise.allSettled([
    readStore(),
    call('getnodestate').then(handlers.node),
    mempool.read(),
    call('getpeerinfo').then((found) => peers(found.length)),
    call('getmininginfo').then(hashRate),
    call('getblockchaininfo').then(({ chain }) => { el('chain').textContent = chain; }),
    call('getnetworkinfo').then(({ subversion }) => {
      const name = subversion.replaceAll('/', '');
      document.title = el('title').textContent = name;
      mempool.unit = /dilithion/i.test(name) ? 'ions/B' : 'sat/B';
    }),
  ]);
  blocks.complete();
  draw();
}

// Blocks come many at a time when a node catches up: what follows from them is read once.
const later = coalesce(() => client.state === 'open' && read(), 1000);

async function readServer() {
  if (client.state !== 'open') return;
  try {
    server.show(await call('rpc.statistics'));
  } catch (error) {
    if (error.code === -32003 || error.code === -32601) server.hide();
  }
}

function draw() {
  if (document.hidden) return;
  const to = Date.now();
  for (const chart of charts) chart.draw(to - range * 1000, to);
  blocks.age();
}

for (const input of document.querySelectorAll('input[name=range]')) {
  input.onchange = () => {
    range = Number(input.value);
    draw();
  };
}
setInterval(draw, 1000);
setInterval(() => readStore().catch(() => {}), 5000);
setInterval(() => client.state === 'open' && read(), READ_SECONDS * 1000);
setInterval(readServer, SERVER_SECONDS * 1000);
document.addEventListener('visibilitychange', draw);
new ResizeObserver(draw).observe(el('charts'));
start();
