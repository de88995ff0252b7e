# client: ElectrumX (application) | pip: e-x[leveldb] | transport: HTTP | checks: indexes the whole chain, and serves it
folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
export COIN=Litecoin NET=regtest DB_ENGINE=leveldb DB_DIRECTORY=$folder DAEMON_URL=http://$2:$3@${1#http://}/ ALLOW_ROOT=1
export SERVICES=tcp://127.0.0.1:$port PEER_DISCOVERY=off COST_SOFT_LIMIT=0
python3 "$CLIENT_FOLDER/bin/electrumx_server" >"$folder/log" 2>&1 & server=$!
trap 'kill $server; wait $server || true' EXIT
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.2; done
exec 3<>"/dev/tcp/127.0.0.1/$port"
echo '{"jsonrpc":"2.0","id":1,"method":"server.version","params":["t","1.4"]}' >&3 && read -r -t 10 -u 3
echo '{"jsonrpc":"2.0","id":2,"method":"blockchain.headers.subscribe","params":[]}' >&3 && read -r -t 10 -u 3 answer
sed 's/.*"height": *\([0-9]*\).*/\1/' <<<"$answer"
