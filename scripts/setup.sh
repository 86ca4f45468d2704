#!/bin/sh
# Makes $VENV: everything it takes to run a host (`run`), or to work on the code (`dev`).
# Quick when nothing is to do; a half-made folder is made again. Each failure is one sentence with
# its mend; what pip said is in $VENV/setup.log.

set -eu
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
LOG=$VENV/setup.log
FREE_RUN_MIB=300
FREE_DEV_MIB=600
# `pip install --group` is understood from this version on.
PIP_LEAST=25.1
SUPPORTED='import sys; sys.exit(sys.version_info < (3, 11))'

# A user's own settings for pip must not send packages past the environment.
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONHOME PYTHONPATH || :

say() { printf 'setup: %s\n' "$1"; }

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

require_unix() {
    case $(uname -s) in
        MINGW* | MSYS* | CYGWIN*)
            fail "Trunkline runs on Linux and macOS: on Windows use WSL2 ('wsl --install'), and run make there." ;;
    esac
}

# Whether $1 is a Python that will do. A shim of a version manager may exist and not run.
is_supported() { "$1" -c "$SUPPORTED" >/dev/null 2>&1; }

find_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3; do
        if is_supported "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "found no Python 3.11 or newer: install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or name it with 'make PYTHON=/path/to/python3'."
}

require_venv_module() {
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 && return
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 cannot make environments, because its venv or ensurepip module is missing: install it (Debian, Ubuntu: apt-get install python3-venv, or python$version-venv where that is not the system's version)."
}

require_room() {
    free_mib=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    [ "${free_mib:-0}" -ge "$1" ] && return
    fail "the disk of $(pwd) has ${free_mib:-0} MiB free and this takes $1 MiB: make room, or move the folder to another disk."
}

is_whole() { [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c "import pip; $SUPPORTED" >/dev/null 2>&1; }

# The programs in a folder that was moved still start the Python of its old place.
is_here() { head -n 2 "$VENV/bin/pip" 2>/dev/null | grep -qF "$(cd "$VENV" && pwd -P)/bin/"; }

is_done() { [ -f "$1" ] && [ "$1" -nt pyproject.toml ] && [ "$1" -nt scripts/setup.sh ]; }

make_environment() {
    if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ ! -d "$VENV/bin" ] && [ -n "$(ls -A "$VENV")" ]; then
        fail "$VENV holds something that is not a Python environment: move it away, or name another folder with 'make VENV=...'."
    fi
    say "making $VENV with $("$1" --version 2>&1) ($1)"
    "$1" -m venv --clear "$VENV" || fail "cannot make $VENV: see what Python said above."
}

# What pip says goes to the log; of a failure its last lines are shown.
pip_install() {
    "$VENV/bin/python" -m pip install --no-input "$@" >>"$LOG" 2>&1 && return
    tail -n 5 "$LOG" >&2
    fail "pip could not install what is needed (all it said is in $LOG): check the network, and the proxy settings if there are any, then run the same command again."
}

goal=${1:-}
case $goal in
    run) free_mib_least=$FREE_RUN_MIB ;;
    dev) free_mib_least=$FREE_DEV_MIB ;;
    *) fail "say 'sh scripts/setup.sh run' or 'sh scripts/setup.sh dev'." ;;
esac

require_unix
if is_whole && is_here && is_done "$VENV/$goal.stamp"; then
    exit 0
fi
python=$(find_python)
require_room "$free_mib_least"
if ! { is_whole && is_here; }; then
    require_venv_module "$python"
    make_environment "$python"
fi
rm -f "$VENV/$goal.stamp"
: >"$LOG"
say "installing (a minute or two the first time)"
pip_install "pip>=$PIP_LEAST"
if [ "$goal" = dev ]; then
    pip_install -e . --group dev
    touch "$VENV/dev.stamp"
else
    pip_install -e .
fi
touch "$VENV/run.stamp"
say "$VENV is ready"
