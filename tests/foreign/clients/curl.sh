# client: curl, as the node's help prints it | needs: curl | of: Debian | transport: HTTP | checks: calls, wallet
post() { curl -sS --user "$user" --data-binary "$1" -H 'content-type: text/plain;' "$2"; }
user=$2:$3
post '{"jsonrpc": "1.0", "id": "curltest", "method": "getbalance", "params": []}' "$1/wallet/a" | grep -q '"result":50.0*,"error":null'
post '{"jsonrpc": "1.0", "id": "curltest", "method": "getblockcount", "params": []}' "$1/" | sed 's/.*"result":\([0-9]*\),.*/\1/'
