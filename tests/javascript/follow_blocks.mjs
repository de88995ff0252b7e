// The client program of the trial in tests/support/conformance.py, for Node.js and, as a module of a page, for browsers.
export async function followBlocks({ Client, EventsLostError }, url, print, options = {}) {
  const client = new Client(url, { backoff: [5, 50], heartbeat: 400, ...options });
  const blocks = client.subscribe('blocks', { since: { height: -1 } });
  for (;;) {
    try {
      for await (const { data } of blocks) print(JSON.stringify(data));
      return;
    } catch (error) {
      print(JSON.stringify({ error: `${error.name}: ${error.message}` }));
      if (!(error instanceof EventsLostError)) return;
    }
  }
}

if (globalThis.process?.argv[2]) {
  const [, , script, url] = process.argv;
  const WebSocket = globalThis.WebSocket ?? (await import(process.env.WS)).WebSocket;
  await followBlocks(await import(script), url, (line) => console.log(line), { WebSocket, maxQueued: 50 });
}
