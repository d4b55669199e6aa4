#!/bin/sh
# Print the path of a Python >= 3.12 that really runs and can make a virtual environment.
# A name on PATH proves nothing: version managers leave shims there that only print an error.

works() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' </dev/null >/dev/null 2>&1
}

try() {
    found=$(command -v "$1" 2>/dev/null) || return 0
    if works "$found"; then
        printf '%s\n' "$found"
        exit 0
    fi
}

# Oldest first: 3.12 is what the package is developed with, and every library has wheels for it.
for name in python3.12 python3.13 python3.14; do
    try "$name"
done
for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
    try "$path"
done
if command -v uv >/dev/null 2>&1; then
    try "$(uv python find --no-project '>=3.12' 2>/dev/null)"
fi
try python3
try python

echo "pkmodel needs Python 3.12 or newer with its venv module: install it (for example \
'apt install python3.12-venv', 'brew install python@3.12', 'pyenv install 3.12', 'uv python install 3.12' \
or python.org) and run the command again." >&2
exit 1
