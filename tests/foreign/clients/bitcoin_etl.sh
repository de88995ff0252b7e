# client: bitcoin-etl (application) | pip: bitcoin-etl | transport: HTTP | checks: exports all blocks and transactions
folder=$(mktemp -d)
python3 "$CLIENT_FOLDER/bin/bitcoinetl" export_blocks_and_transactions --start-block 0 --end-block 101 --chain litecoin \
    --provider-uri "http://$2:$3@${1#http://}" --blocks-output "$folder/blocks.json" --transactions-output "$folder/transactions.json" >&2
[ "$(grep -c . "$folder/transactions.json")" = 102 ]
sed 's/.*"number": \([0-9]*\).*/\1/' "$folder/blocks.json" | sort -n | tail -1
