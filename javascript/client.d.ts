/** Types of the client. `dilithion-ws types --url URL` writes `Methods` and `Topics` for the methods and topics of a server. */

/** By method: its params, by position or by name, and its result. */
export interface AnyMethods {
  [method: string]: { params: unknown; result: any };
}

/** By topic: the data of its events. */
export interface AnyTopics {
  [topic: string]: any;
}

export interface BlockEvent {
  kind: 'connected' | 'disconnected';
  height: number;
  hash: string;
  previousblockhash: string;
  time: number;
  tx_count: number;
}

export type TransactionEvent =
  | { kind: 'seen'; txid: string; addresses?: string[]; confirmations: 0 }
  | { kind: 'confirmed'; txid: string; addresses?: string[]; height: number; hash: string; confirmations: number }
  | { kind: 'unconfirmed'; txid: string; addresses?: string[]; height: number; hash: string }
  | { kind: 'dropped'; txid: string; addresses?: string[]; reason: 'replaced' | 'expired' | 'conflict' | 'unknown' };

/** Numbers are strings with all digits if the client has the option `exact`. */
export type Amount = number | string;

export type MempoolEvent =
  | { kind: 'added'; txid: string; size: number; fee?: Amount; sequence: number; addresses?: string[] }
  | {
      kind: 'removed';
      txid: string;
      size: number;
      fee?: Amount;
      sequence: number;
      addresses?: string[];
      reason: 'mined' | 'replaced' | 'expired' | 'conflict' | 'unknown';
    }
  | { kind: 'mined'; height: number; hash: string; txids: string[]; sequence: number; addresses?: string[]; unseen?: number };

export type PeerEvent =
  | { kind: 'connected' | 'disconnected'; id: number; addr: string; inbound: boolean; peers: number }
  | { kind: 'banned'; addr: string; banned_until: number };

export type MiningEvent =
  | { kind: 'started'; threads: number }
  | { kind: 'stopped' }
  | { kind: 'hashrate'; hashrate: Amount; threads: number }
  | { kind: 'block_found'; height: number; hash: string };

/** The topics of a node. A gateway has `node` as well, and hosts have their own. */
export interface NodeTopics extends AnyTopics {
  blocks: BlockEvent;
  mempool: MempoolEvent;
  peers: PeerEvent;
  mining: MiningEvent;
  transactions: TransactionEvent;
}

/** A place in the log of a topic. */
export interface Position {
  epoch: string;
  seq: number;
}

/** A block: where to resume `blocks` and `transactions`, however long ago that was. */
export interface Block {
  height: number;
  hash?: string;
}

/** Where to resume a subscription. Store that of the last event, and send it back. */
export type Since = Position | Block;

export interface Event<Data> {
  topic: string;
  data: Data;
  /** Where to resume after this event. */
  since: Since;
  /** Whether it was read from the chain, and not from the log of the topic. */
  history: boolean;
}

export interface CallOptions {
  /** Milliseconds to wait for the answer. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** Which events, such as `{ kind: 'added' }`. */
  filter?: Record<string, string | number | boolean | (string | number | boolean)[]>;
  /** Where to resume; default: now. */
  since?: Since;
  /** `latest` skips to the newest event whenever several wait. */
  mode?: 'all' | 'latest';
  /** Ends the subscription. */
  signal?: AbortSignal;
}

/** Events of one topic, in order. Errors are thrown by the iteration; after an `EventsLostError` it can be continued. */
export interface Subscription<Data> extends AsyncIterableIterator<Event<Data>> {
  readonly topic: string;
  /** Where to resume after the last event that was received. */
  readonly since: Since | undefined;
  readonly closed: boolean;
  /** End the subscription. */
  close(): void;
}

export interface ClientOptions {
  /** An API token. */
  token?: string;
  /** A login by name and password. */
  user?: string;
  password?: string;
  /** Returns `[user, password]` for each new connection, instead of the above. */
  credentials?: () => Promise<[string, string]> | [string, string];
  /** The constructor of sockets, where the platform has none: `WebSocket` of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => any;
  /** Milliseconds that a call waits for a connection, and for its answer; default: 30000. */
  timeout?: number;
  /** Milliseconds between two attempts to connect: at first and at most; default: [500, 30000]. */
  backoff?: [number, number];
  /** Milliseconds of silence after which the connection is tried; default: 20000. */
  heartbeat?: number;
  /** Integers beyond 2^53 are BigInt, and decimal numbers strings with all digits; default: false. */
  exact?: boolean;
  /** Events, and about their bytes, that wait for the reader of a subscription; default: 10000 and 16 MiB. */
  maxQueued?: number;
  maxQueuedBytes?: number;
  /** Closes the client. */
  signal?: AbortSignal;
}

export interface User {
  user: string | null;
  role: string | null;
}

export class Client<Methods = AnyMethods, Topics = NodeTopics> extends EventTarget {
  /** Connects at once, and again after each loss. Dispatches an event `state` whenever `state` changes. */
  constructor(url: string, options?: ClientOptions);

  readonly url: string;
  readonly state: 'connecting' | 'open' | 'waiting' | 'closed';
  /** Why the last connection was lost. */
  readonly reason: string | undefined;
  /** When the last message arrived, in milliseconds since 1970. */
  readonly lastReceived: number;
  readonly user: User | null;

  /** Wait until the client is connected and logged in. */
  ready(options?: CallOptions): Promise<void>;

  /** Call a method. Throws `RpcError`, `TimeoutError`, `ConnectionLostError`, or the reason of the signal. */
  call<Name extends keyof Methods & string>(
    method: Name,
    params?: Methods[Name] extends { params: infer Params } ? Params : never,
    options?: CallOptions,
  ): Promise<Methods[Name] extends { result: infer Result } ? Result : never>;

  /** Call a method. Return the position, too, at which a subscription continues the state in the result. */
  callWithPosition<Name extends keyof Methods & string>(
    method: Name,
    params?: Methods[Name] extends { params: infer Params } ? Params : never,
    options?: CallOptions,
  ): Promise<{
    result: Methods[Name] extends { result: infer Result } ? Result : never;
    position: (Position & { topic: string }) | null;
  }>;

  /** Make several calls in one message. An `RpcError` stands in the place of a call that failed. */
  batch(calls: [method: keyof Methods & string, params?: unknown][], options?: CallOptions): Promise<any[]>;

  /** Subscribe to a topic. Leaving the loop over the result ends the subscription. */
  subscribe<Name extends keyof Topics & string>(topic: Name, options?: SubscribeOptions): Subscription<Topics[Name]>;

  /** Call a function with each event. Return a function that ends that. */
  on<Name extends keyof Topics & string>(
    topic: Name,
    onEvent: (event: Event<Topics[Name]>) => void,
    options?: SubscribeOptions & { onError?: (error: Error) => void },
  ): () => void;

  /** Close the connection, and end all subscriptions. */
  close(): void;
}

/** Return a param that is sent as a number with these digits: `decimal('0.10000000')`. */
export function decimal(digits: string): { toJSON(): string };

/** An error that the server returned for a call. */
export class RpcError extends Error {
  readonly code: number;
  readonly data: any;
  /** Milliseconds after which the server advises to try again. */
  readonly retryAfter: number | undefined;
}

/** The connection was lost, or was not there in time. The server may have executed a call without an answer. */
export class ConnectionLostError extends Error {}

/** No answer came in time. The server may still execute the call. */
export class TimeoutError extends Error {}

/** Events were published that a subscription will never receive. Iterate again to go on behind them. */
export class EventsLostError extends Error {
  readonly topic: string;
  readonly reason: string;
  /** What the subscription had until then. */
  readonly since: Since;
}
