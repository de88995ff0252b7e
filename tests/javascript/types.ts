// Compiled by tests/javascript/test_client.py: what must compile, and, after @ts-expect-error, what must not.
import { Client, EventsLostError, RpcError, decimal, type Since } from 'dilithion-ws';

interface Methods {
  getblockcount: { params: []; result: number };
  getblockhash: { params: [height: number] | { height: number }; result: { blockhash: string } };
}

export async function check(stored: Since | undefined): Promise<void> {
  const client = new Client<Methods>('ws://localhost:8333', { exact: true, backoff: [100, 1000] });
  const count: number = await client.call('getblockcount');
  const { blockhash } = await client.call('getblockhash', { height: count }, { timeout: 1000 });
  console.log(blockhash.length, client.state === 'open', client.user?.role);
  // @ts-expect-error: there is no such method
  await client.call('getblock');
  // @ts-expect-error: a height is a number
  await client.call('getblockhash', ['1']);
  for await (const { data, since } of client.subscribe('blocks', { since: stored, filter: { kind: 'connected' } })) {
    const height: number = data.height;
    console.log(height, since);
  }
  client.on('transactions', ({ data }) => {
    if (data.kind === 'confirmed') console.log(data.confirmations.toFixed(), data.hash);
    // @ts-expect-error: only transactions that were dropped have a reason
    else if (data.kind === 'seen') console.log(data.reason);
  });
  // @ts-expect-error: a signal is not a number
  client.subscribe('peers', { signal: 5 });
  const untyped = new Client('ws://localhost:8333');
  await untyped.call('sendtoaddress', ['D1', decimal('0.1')]);
  try {
    await client.ready();
  } catch (error) {
    if (error instanceof RpcError) console.log(error.code, error.retryAfter);
    if (error instanceof EventsLostError) console.log(error.topic, error.since);
  }
}
