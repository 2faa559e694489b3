#!/bin/sh
# Everything that is checked before a change is handed in, in copies of this tree: the source rules, shellcheck of all
# scripts, the whole suite on a build with assertions (TF_DEBUG=1), and all but the live tests on one with sanitizers.
#
#   scripts/check.sh [--python PATH] [--fuzz SECONDS] [source|debug|sanitize]...     (default: all three)
#
# Live tests need root. --fuzz lets every fuzz test go on for so many seconds. Exit codes: 0, 1 something failed, 2 usage.

set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
parts=
while [ $# -gt 0 ]; do
    case $1 in
    --python) python=${2:?--python takes a path}; shift 2 ;;
    --fuzz) TIGERFOX_FUZZ_SECONDS=${2:?--fuzz takes seconds}; export TIGERFOX_FUZZ_SECONDS; shift 2 ;;
    source | debug | sanitize) parts="$parts $1"; shift ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
failed=
export PYTHONDONTWRITEBYTECODE=1
TIGERFOX_CORPUS=${TIGERFOX_CORPUS:-$root/../shared/corpus}
export TIGERFOX_CORPUS

# Copy what git knows or would add into $1, and build it there with the variable $2 set.
copy_built() {
    mkdir "$work/$1"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/$1")
    (cd "$work/$1" && env "$2=1" "$python" setup.py -q build_ext --inplace >"$work/$1.log" 2>&1) ||
        { tail -n 40 "$work/$1.log" >&2; return 1; }
}

suite() {
    (cd "$work/$1" && shift && "$python" -m pytest -q -p no:cacheprovider "$@")
}

check_source() {
    if command -v shellcheck >/dev/null; then
        find "$root/scripts" -name '*.sh' -exec shellcheck {} + || return 1
    else
        echo "check.sh: shellcheck is not here; install it to have the scripts checked" >&2
    fi
    (cd "$root" && "$python" -m pytest -q -p no:cacheprovider tests/test_source.py tests/test_docs.py)
}

check_debug() {
    copy_built debug TF_DEBUG && suite debug
}

check_sanitize() {
    copy_built sanitize TF_SANITIZE || return 1
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    PYTHONMALLOC=malloc
    (export LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS PYTHONMALLOC; suite sanitize -m "not live")
}

for part in ${parts:-source debug sanitize}; do
    echo "== $part"
    "check_$part" || failed="$failed $part"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
