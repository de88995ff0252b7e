# shellcheck shell=bash
# What the scripts share: the virtual environment, made on first use and after its requirements have changed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# have_venv [DIRECTORY [PYTHON [EXTRAS]]] - leaves the environment's interpreter in $python
have_venv() {
    local directory=${1:-$root/.venv} base=${2:-python3} extras=${3:-test,speed} wanted
    python=$directory/bin/python
    wanted="$("$base" --version) $extras $(cat "$root/setup.py" "$root/pyproject.toml" | cksum)"
    [ "$(cat "$directory/.ready" 2>/dev/null)" = "$wanted" ] && return
    echo "Preparing $(basename "$directory") ..." >&2
    "$base" -m venv --clear "$directory"
    # Twice, since a registry may be out of reach for a moment.
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]" ||
        "$python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]"
    printf '%s\n' "$wanted" >"$directory/.ready"
}

# have_runtime - leaves an interpreter with the server in $python: the tests' environment if there is one, otherwise a
# small one without the test tools
have_runtime() {
    if [ -f "$root/.venv/.ready" ]; then
        have_venv
    else
        have_venv "$root/.venv-run" python3 speed
    fi
}
