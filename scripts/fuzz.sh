#!/bin/sh
# Fuzz a part of the data plane or of the rule language under address, leak and undefined-behaviour sanitizers, with libFuzzer.
#
#   scripts/fuzz.sh [--python PATH] [--build FOLDER] TARGET SECONDS [FILE|LIBFUZZER-OPTION]...
#
# TARGET is a module of tests/fuzz/targets/. Builds in FOLDER (default build/fuzz; again only when sources changed), starts from
# the kept inputs (tests/fuzz/corpus/TARGET) and the target's own seeds, and keeps what it finds in FOLDER/found/TARGET;
# a crash is written to FOLDER/crashes/. With FILEs, runs those once each. --keep TARGET 0 writes a small selection of what was
# found to tests/fuzz/corpus/TARGET. With TIGERFOX_CORPUS set the rules target begins from that corpus' rules too, which are not
# ours: what comes of them is refused by --keep. Needs clang-14 and libclang-rt-14-dev (or CLANG). Exit codes: libFuzzer's; 2 usage.

set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
build=$root/build/fuzz
keep=
while [ $# -gt 0 ]; do
    case $1 in
    --python) python=${2:?--python takes a path}; shift 2 ;;
    --build) build=${2:?--build takes a folder}; shift 2 ;;
    --keep) keep=1; shift ;;
    *) break ;;
    esac
done
if [ $# -lt 2 ] || [ ! -f "$root/tests/fuzz/targets/$1.py" ]; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
target=$1 seconds=$2
shift 2
clang=${CLANG:-$(command -v clang-14 || command -v clang || true)}
[ -n "$clang" ] || { echo "fuzz.sh: no clang; install the Debian packages clang-14 and libclang-rt-14-dev" >&2; exit 2; }

# The sources as they stand, compiled for the fuzzer: coverage in, sanitizers in, the run-time library in the driver only.
build_tree() {
    mkdir -p "$build/tree"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard -- setup.py pyproject.toml README.md tigerfox rules tests |
        xargs -0 cp --parents -u -p -t "$build/tree")
    (cd "$build/tree" && export CC="$clang" LDSHARED="$clang -shared" TF_SANITIZE=fuzz PYTHONPATH=. &&
        "$python" setup.py -q build_ext --inplace) >"$build/build.log" 2>&1 || { tail -n 40 "$build/build.log" >&2; exit 1; }
    flags=$("$python" - <<'END'
import os, sysconfig as s
v = s.get_config_vars()
name = "python" + v["LDVERSION"]
print("-I" + s.get_paths()["include"], "-L" + v["LIBDIR"], "-l" + name, "-Wl,-rpath," + v["LIBDIR"])
END
    )
    # shellcheck disable=SC2086  # the flags are meant to be split
    "$clang" -g -O1 -fsanitize=fuzzer,address,undefined -rdynamic -o "$build/driver.$$" "$root/tests/fuzz/targets/driver.c" $flags
    mv "$build/driver.$$" "$build/driver"       # another run may be using the one that is there
}

kept=$root/tests/fuzz/corpus/$target
build_tree
mkdir -p "$build/found/$target" "$build/seeds/$target" "$build/crashes" "$kept"
export TIGERFOX_FUZZ_TARGET="$target" TIGERFOX_FUZZ_PYTHON="$python"
export TIGERFOX_FUZZ_PATH="$build/tree:$build/tree/tests/fuzz/targets:$build/tree/tests/fuzz:$build/tree/tests/stages"
export PYTHONMALLOC=malloc ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1:handle_abort=2:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
export TIGERFOX_FUZZ_SEEDS="$build/seeds/$target" TIGERFOX_FUZZ_WORDS="$build/$target.words"
cd "$build"
# libFuzzer ends without Python's goodbyes: what the targets keep for a while goes with this folder.
TMPDIR=$(mktemp -d "$([ ! -d /dev/shm ] || echo /dev/shm/)tigerfox-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM

if [ -n "$keep" ]; then
    [ ! -e "$build/found/$target/.others" ] || { echo "fuzz.sh: found from rules of others: not to be kept" >&2; exit 2; }
    rm -rf "$build/chosen"
    mkdir "$build/chosen"
    ./driver -set_cover_merge=1 -max_len=1024 "$build/chosen" "$build/found/$target" "$build/seeds/$target" "$kept"
    find "$build/chosen" -type f -size -3 -printf '%f\n' | sort | head -n 40 | while read -r name; do
        cp "$build/chosen/$name" "$kept/$(printf %.12s "$name")"
    done
    exit 0
fi
for one in "$@"; do
    if [ -f "$one" ]; then
        ./driver "$@"
        exit
    fi
done
[ "$target" != rules ] || [ -z "${TIGERFOX_CORPUS:-}" ] || touch "$build/found/$target/.others"
# Leaks are looked for when it ends (the sanitizer does that), not after each input: that is what -detect_leaks=0 says.
touch "$build/$target.words"
./driver -runs=0 >/dev/null 2>&1 || true       # writes the seeds and the words
./driver -max_total_time="$seconds" -dict="$build/$target.words" -artifact_prefix="$build/crashes/$target-" \
    -print_final_stats=1 -detect_leaks=0 -timeout=30 -rss_limit_mb=4096 -max_len=4096 "$@" \
    "$build/found/$target" "$build/seeds/$target" "$kept"
