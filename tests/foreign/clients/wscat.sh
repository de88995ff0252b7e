# client: wscat | npm: wscat | transport: WebSocket | checks: calls
# It ends when its standard input does, so that stays open until the answer is there.
url=ws://${1#*@}
call='{"jsonrpc":"2.0","method":"getblockcount","params":[],"id":1}'
sleep 20 | node "$NODE_PATH/wscat/bin/wscat" -c "$url" --auth "$2:$3" -w 1 -x "$call" | sed 's/.*"result":\([0-9]*\).*/\1/' & job=$!
wait $job
