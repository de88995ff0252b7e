# client: litecoin-cli | needs: litecoin-cli | of: Debian | transport: HTTP | checks: calls, -getinfo, -netinfo, -stdin, -named, -rpcwallet, -rpcwait, -stdinrpcpass
address=${1#http://}
cli() { litecoin-cli -regtest -datadir="$(mktemp -d)" -rpcconnect="${address%:*}" -rpcport="${address#*:}" -rpcuser="$user" "$@"; }
user=$2
password=-rpcpassword=$3
[ "$(cli "$password" -rpcwait -rpcwallet=a getbalance)" = 50.00000000 ]
cli "$password" -getinfo | grep -q '"blocks": 101'
cli "$password" -netinfo | grep -q 'Litecoin Core'
[ "$(echo 0 | cli "$password" -stdin getblockhash)" = "$(cli "$password" -named getblockhash height=0)" ]
if cli "$password" nosuch 2>/dev/null; then exit 1; fi
printf '%s\n' "$3" | cli -stdinrpcpass getblockcount
