#!/bin/sh
# Takes away what up.sh added, and nothing else.
set -u
PROGRAM=down.sh
ARGUMENTS=$*
# shellcheck source=scripts/iptables/chain.sh
. "$(dirname "$0")/chain.sh"
# shellcheck source=scripts/iptables/offload.sh
. "$(dirname "$0")/offload.sh"

usage() {
    cat <<'HELP'
Usage: down.sh [--name NAME] [--family both|4|6] [--frontend auto|nft|legacy] [--dry-run]

Removes the chain NAME (default TIGERFOX), the chains beside it and its jumps, whatever is there of them, in one
transaction a family, and the nf_tables table `inet NAME` of --offload.
Rules of others stay as they are; where one of them leads into the chain, the chain is emptied
and kept, and the exit code is 1. Running it twice is the same as running it once.

Exit codes: 0 nothing of ours is there any more, 1 failed, 2 usage, 3 missing privilege or program.
HELP
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage; exit 0 ;;
        --dry-run) DRY_RUN=yes; shift; continue ;;
        esac
        value_of "$1" $#
        case $1 in
        --name) NAME=$2 ;;
        --family) FAMILIES=$2 ;;
        --frontend) FRONTEND=$2 ;;
        *) die 2 "$1: no such option; see down.sh --help." ;;
        esac
        shift 2
    done
}

transaction() { # family
    echo "*$TABLE"
    drop_jumps "$1"
    own_chains "$1" | sed 's/^/-F /'
    own_chains "$1" | while read -r chain; do
        # A chain that a rule of somebody else's leads into cannot go.
        foreign_jumps "$1" | grep -q -E -e "-[jg] $chain( |\$)" || echo "-X $chain"
    done
    echo COMMIT
}

remove() { # family
    [ -n "$(own_chains "$1")$(own_jumps "$1")" ] || return 0
    transaction "$1" >"$WORK/$1"
    if [ "$DRY_RUN" = yes ]; then
        echo "$(tool "$1" -restore) -w 10 --noflush <<'END'"
        cat "$WORK/$1"
        echo END
        return 0
    fi
    restore "$1" "$WORK/$1" || die 1 "$(tool "$1" -restore) refused; see with: $(tool "$1" -save) -t $TABLE"
    [ -z "$(own_chains "$1")" ] && return 0
    say "$PROGRAM: $NAME is emptied but kept, because these rules lead into it; delete them and run $PROGRAM again:"
    foreign_jumps "$1" >&2
    LEFT=1
}

main() {
    LEFT=0
    read_arguments "$@"
    check_name
    check_choices
    need_tools
    need_admin
    WORK=$(mktemp -d) || die 1 "no temporary directory; free space in ${TMPDIR:-/tmp}."
    trap 'rm -rf "$WORK"' EXIT
    trap 'exit 1' HUP INT TERM
    for family in $(families); do remove "$family"; done
    [ "$FAMILIES" = both ] || [ -z "$(own_chains 4)$(own_chains 6)" ] || return $LEFT
    offload_down || LEFT=1
    return $LEFT
}

main "$@"
