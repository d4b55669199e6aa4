#!/bin/sh
# Make .venv with pkmodel in it: `make_venv.sh run` for using it, `make_venv.sh dev` for testing it as well.
# Does nothing when the environment is already right, so every make target may call it.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-run}
python=.venv/bin/python
stamp=.venv/pkmodel-$kind
log=.venv/install.log

# Scripts in an environment carry its path, so a moved checkout is as stale as an edited pyproject.toml.
state="$(pwd) $(cksum <pyproject.toml)"
runs() {
    "$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 12))' </dev/null >/dev/null 2>&1
}
fresh() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$state" ] && [ -x .venv/bin/pkmodel ]
}

if runs; then
    if fresh "$stamp" || { [ "$kind" = run ] && fresh .venv/pkmodel-dev; }; then
        exit 0
    fi
else
    found=$(sh scripts/find_python.sh)
    echo "making .venv with $("$found" --version) ($found)"
    "$found" -m venv --clear .venv
fi

target=.
[ "$kind" = dev ] && target='.[dev]'
echo "installing pkmodel and what it needs into .venv (a few minutes the first time)"
if ! "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off -e "$target" \
    </dev/null >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "the installation failed; the whole log is in $log" >&2
    exit 1
fi
printf '%s\n' "$state" >"$stamp"
