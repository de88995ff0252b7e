# shellcheck shell=bash
# What deploy/backup and deploy/restore share.

umask 077
program=${DILITHION_WS:-/opt/dilithion-ws/bin/dilithion-ws}
user=${DILITHION_WS_USER:-dilithion-ws}

# usage - prints the comment at the head of the script, and exits
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# setting KEY - prints the value that the configuration gives a key
setting() {
    "$program" config --conf "$conf" --json | sed -n "/\"$1\": {/,/}/s/.*\"value\": \"\(.*\)\",\{0,1\}$/\1/p"
}

# as_server COMMAND... - runs a command as the server's user, if there is one and this is root
as_server() {
    if [ "$(id -u)" = 0 ] && id "$user" >/dev/null 2>&1; then
        runuser -u "$user" -- "$@"
    else
        "$@"
    fi
}
