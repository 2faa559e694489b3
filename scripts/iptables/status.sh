#!/bin/sh
# Shows TigerFox's chain with its counters, and who listens on its queues.
set -u
PROGRAM=status.sh
ARGUMENTS=$*
JSON=no
QUEUE_FILE=/proc/net/netfilter/nfnetlink_queue
# shellcheck source=scripts/iptables/chain.sh
. "$(dirname "$0")/chain.sh"

usage() {
    cat <<'HELP'
Usage: status.sh [--json] [--name NAME] [--family both|4|6] [--frontend auto|nft|legacy]

Prints the hooks, each rule of the chain with packets and bytes, and the queues of this network namespace: waiting
packets, packets dropped because the queue or the listener's buffer was full, and whether somebody listens.

Exit codes: 0 the chain is there and hooked in every family asked for, 1 it is not, 2 usage, 3 missing privilege or
program.
HELP
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage; exit 0 ;;
        --json) JSON=yes; shift; continue ;;
        esac
        value_of "$1" $#
        case $1 in
        --name) NAME=$2 ;;
        --family) FAMILIES=$2 ;;
        --frontend) FRONTEND=$2 ;;
        *) die 2 "$1: no such option; see status.sh --help." ;;
        esac
        shift 2
    done
}

records() { # family: "hook FAMILY NAME" and "rule FAMILY CHAIN PACKETS BYTES QUEUES TEXT", queues "-" where there are none
    "$(tool "$1" -save)" -c -t "$TABLE" 2>/dev/null | awk -v family="$1" -v name="$NAME" '
        $2 != "-A" || $1 !~ /^\[/ { next }
        $NF == name && $3 ~ /^(FORWARD|INPUT|OUTPUT)$/ { print "hook", family, tolower($3); next }
        $3 == name || $3 == name "-Q" || $3 == name "-END" || $3 == name "-B" || $3 == name "-K" {
            split(substr($1, 2, length($1) - 2), count, ":")
            queues = "-"
            for (i = 4; i < NF; i++) if ($i == "--queue-num" || $i == "--queue-balance") queues = $(i + 1)
            text = $4
            for (i = 5; i <= NF; i++) text = text " " $i
            print "rule", family, $3, count[1], count[2], queues, text
        }'
}

listeners() { # "queue NUMBER PORTID WAITING DROPPED USER_DROPPED LAST_ID"
    [ -r "$QUEUE_FILE" ] && awk '{ print "queue", $1, $2, $3, $6, $7, $8 }' "$QUEUE_FILE"
}

as_table() {
    awk '
        $1 == "hook" { hooks[$2] = hooks[$2] " " $3; next }
        $1 == "rule" {
            if (!($2 in seen)) { seen[$2] = 1; print "IPv" $2 ", hooks:" (hooks[$2] == "" ? " none" : hooks[$2]) }
            text = $7
            for (i = 8; i <= NF; i++) text = text " " $i
            printf "  %12s packets %14s bytes  %s: %s\n", $4, $5, $3, text
            n = split($6, ends, ":")
            if ($6 != "-") for (q = ends[1]; q <= ends[n]; q++) asked[q + 0] = 1
            next
        }
        {
            there[$2] = 1
            line[$2] = sprintf("  queue %s: port %s listens, %s waiting, %s + %s dropped, last id %s", $2, $3, $4, $5, $6, $7)
        }
        END {
            if (!length(seen)) print "The chain is not there."
            for (q = 0; q < 65536; q++) {
                if (q in there) print line[q] (q in asked ? "" : " (not of this chain)")
                else if (q in asked) print "  queue " q ": nobody listens"
            }
        }'
}

as_json() {
    awk -v name="$NAME" '
        function quoted(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return "\"" text "\"" }
        $1 == "hook" { hooks[$2] = hooks[$2] (hooks[$2] == "" ? "" : ", ") quoted($3); next }
        $1 == "rule" {
            text = $7
            for (i = 8; i <= NF; i++) text = text " " $i
            sent = $6 == "-" ? "null" : quoted($6)
            rules[$2] = rules[$2] (rules[$2] == "" ? "" : ", ") "{\"chain\": " quoted($3) ", \"packets\": " $4 \
                ", \"bytes\": " $5 ", \"queues\": " sent ", \"rule\": " quoted(text) "}"
            next
        }
        {
            queues = queues (queues == "" ? "" : ", ") "{\"queue\": " $2 ", \"portid\": " $3 ", \"waiting\": " $4 \
                ", \"queue_dropped\": " $5 ", \"user_dropped\": " $6 ", \"last_id\": " $7 "}"
        }
        END {
            family = "\"ipv%d\": {\"hooks\": [%s], \"rules\": [%s]}, "
            printf "{\"chain\": %s, " family family "\"queues\": [%s]}\n", \
                quoted(name), 4, hooks[4], rules[4], 6, hooks[6], rules[6], queues
        }'
}

is_up() { # in every family: a rule and a hook
    for family in $(families); do
        printf '%s\n' "$1" | grep -q "^rule $family $NAME " || return 1
        printf '%s\n' "$1" | grep -q "^hook $family " || return 1
    done
}

main() {
    read_arguments "$@"
    check_name
    check_choices
    need_tools
    need_admin
    found=$(for family in $(families); do records "$family"; done; listeners)
    if [ $JSON = yes ]; then printf '%s\n' "$found" | grep . | as_json; else printf '%s\n' "$found" | grep . | as_table; fi
    is_up "$found"
}

main "$@"
