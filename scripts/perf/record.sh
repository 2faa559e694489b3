#!/bin/sh
# Records a worker of a running instance while packets come: flame graph, top functions, what it judged. See --help.
set -u
PROGRAM=record.sh

usage() {
    cat <<'HELP'
Usage: record.sh [options] [-- COMMAND...]

Looks at one worker of a running instance for some seconds, with `tigerfox profile` (perf), and writes to a folder:

  flame.svg              the flame graph: kernel, libraries and TigerFox's own functions
  top.txt                the functions that took most, as a table
  status-before.json, status-after.json
                         what `tigerfox status` said before and after, so that the packets in between are known

COMMAND, where one is given, is run meanwhile to bring the packets: a load generator, or ssh to one. It is ended when the time
is over. Without it the traffic that there is has to do; where no packet comes it is said, and nothing is recorded.

  --queue N              the worker of this queue (default: the one that judged the most)
  --seconds S            how long to look (default 10)
  --top N                functions in the table (default 25)
  --out DIR              the folder (default tigerfox-perf-DATE-TIME, here)
  --wait S               seconds to wait for the first packet (default 10)
  --run-dir DIR          run directory of the instance (default: that of tigerfox)
  --tigerfox PATH        the program (default: what PATH finds)
  --help

perf samples 499 times a second; the worker loses a few per cent of its speed meanwhile, and no packet.

Exit codes: 0 done, 1 failed, 2 usage, 3 missing privilege or program.
HELP
}

QUEUE=
SECONDS_LONG=10
TOP=25
OUT=
WAIT=10
RUN_DIR=
BINARY=tigerfox
LOAD=

say() { printf '%s\n' "$*" >&2; }

die() { # exit code, message
    code=$1
    shift
    say "$PROGRAM: $*"
    exit "$code"
}

is_number() { case $1 in '' | *[!0-9]*) false ;; *) [ "${#1}" -le 5 ] ;; esac }

check_arguments() {
    [ -z "$QUEUE" ] || is_number "$QUEUE" || die 2 "--queue $QUEUE: use the number of a queue."
    { is_number "$SECONDS_LONG" && [ "$SECONDS_LONG" -ge 1 ] && [ "$SECONDS_LONG" -le 600 ]; } ||
        die 2 "--seconds $SECONDS_LONG: use whole seconds, 1 to 600."
    { is_number "$TOP" && [ "$TOP" -ge 1 ]; } || die 2 "--top $TOP: use a number."
    is_number "$WAIT" || die 2 "--wait $WAIT: use whole seconds."
    command -v "$BINARY" >/dev/null 2>&1 || die 3 "$BINARY is not there; say where with --tigerfox PATH."
    command -v perf >/dev/null 2>&1 || die 3 "perf is not installed. Install it: apt-get install linux-perf"
}

tigerfox() { # verb, options
    verb=$1
    shift
    "$BINARY" "$verb" ${RUN_DIR:+--run-dir "$RUN_DIR"} "$@"
}

judged() { # packets that all workers have judged
    tigerfox status --json | tr -d ' \n' | sed -n 's/.*"totals":{[^}]*"packets":\([0-9]*\).*/\1/p'
}

wait_for_packets() {
    first=$(judged)
    [ -n "$first" ] || die 1 "the instance does not say how many packets it judged; see above."
    waited=0
    while [ "$(judged)" = "$first" ]; do
        [ "$waited" -lt "$WAIT" ] ||
            die 1 "no packet came within $WAIT s. Record while there is traffic, or give a COMMAND that makes it."
        sleep 1
        waited=$((waited + 1))
    done
}

end_load() {
    [ -z "$LOAD" ] || kill "$LOAD" 2>/dev/null
}

record() {
    wait_for_packets
    mkdir -p "$OUT" || die 1 "--out $OUT: the folder cannot be made."
    tigerfox status --json >"$OUT/status-before.json" || exit
    tigerfox profile ${QUEUE:+--queue "$QUEUE"} --seconds "$SECONDS_LONG" --top "$TOP" --svg "$OUT/flame.svg" \
        >"$OUT/top.txt" || exit
    tigerfox status --json >"$OUT/status-after.json" || exit
    cat "$OUT/top.txt"
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage; exit 0 ;;
        --) shift; break ;;
        esac
        [ $# -ge 2 ] || die 2 "$1 needs a value; see $PROGRAM --help."
        case $1 in
        --queue) QUEUE=$2 ;;
        --seconds) SECONDS_LONG=$2 ;;
        --top) TOP=$2 ;;
        --out) OUT=$2 ;;
        --wait) WAIT=$2 ;;
        --run-dir) RUN_DIR=$2 ;;
        --tigerfox) BINARY=$2 ;;
        *) die 2 "$1: no such option; see $PROGRAM --help." ;;
        esac
        shift 2
    done
    check_arguments
    OUT=${OUT:-tigerfox-perf-$(date +%Y%m%d-%H%M%S)}
    if [ $# -gt 0 ]; then
        trap end_load EXIT
        trap 'exit 1' HUP INT TERM
        "$@" >/dev/null 2>&1 &
        LOAD=$!
    fi
    record
}

main "$@"
