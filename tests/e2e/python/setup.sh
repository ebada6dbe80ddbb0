#!/bin/bash
# Makes (once) the Python environment that the tests with foreign controllers use, and prints its folder.
# FERRULE_CONTROLLERS=DIR  where it lies (default: ${XDG_CACHE_HOME:-~/.cache}/ferrule-controllers)
set -euo pipefail
here=$(readlink -f "$(dirname "$0")")
dir=${FERRULE_CONTROLLERS:-${XDG_CACHE_HOME:-$HOME/.cache}/ferrule-controllers}
wanted=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)
if [ "$(cat "$dir/requirements.sha256" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    log=$(mktemp)
    if ! "$dir/bin/pip" install -q --no-input -r "$here/requirements.txt" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "controllers: could not install $here/requirements.txt" >&2
        exit 1
    fi
    rm -f "$log"
    echo "$wanted" >"$dir/requirements.sha256"
fi
echo "$dir"
