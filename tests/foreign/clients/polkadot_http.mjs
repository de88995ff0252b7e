// client: @polkadot/rpc-provider | npm: @polkadot/rpc-provider | transport: HTTP | checks: calls
import { HttpProvider } from "@polkadot/rpc-provider";

const [url, user, password] = process.argv.slice(2);
const node = new HttpProvider(url, { authorization: `Basic ${btoa(`${user}:${password}`)}` });
console.log(await node.send("getblockcount", []));
