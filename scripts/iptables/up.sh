#!/bin/sh
# Sends traffic to TigerFox's queues. See --help; the design is in the text of --help and in chain.sh.
set -u
PROGRAM=up.sh
ARGUMENTS=$*
# shellcheck source=scripts/iptables/chain.sh
. "$(dirname "$0")/chain.sh"
# shellcheck source=scripts/iptables/offload.sh
. "$(dirname "$0")/offload.sh"

usage() {
    cat <<'HELP'
Usage: up.sh [--hook forward|input|output]... [--queues A:B|N] [options]

Sends packets to NFQUEUE numbers through a chain of its own, for IPv4 and IPv6. Running it twice is the same as running
it once. Each family changes in one transaction; when IPv6 fails, IPv4 is taken back.

  --hook HOOK            forward (default), input or output; may be given several times
  --queues A:B | N       queue numbers (default 0:0)
  --fanout MODE          balance  by addresses and protocol (default; one client to one server stays on one queue)
                         cpu      by the CPU that took the packet in (--queue-cpu-fanout)
                         flow     by connection, in turn, both directions on the same queue
  --mark-mask MASK|none  --fanout flow: the bits of the connection mark that TigerFox may use (default 0x00ff0000).
                         Contiguous, room for the number of queues + 1. none: by a hash of addresses and ports instead
  --bypass-mark MASK     leave connections to the kernel of which TigerFox says that no rule can match them any more; MASK
                         is two bits, 0x3000000 for instance: of the connection mark one for each direction, and of the
                         packet mark, in packets that come back from a queue. All other bits stay
  --fail open|closed     nobody listens on a queue: open lets packets pass (--queue-bypass), closed drops them (default)
  --skip-mark V/M        on output, packets of this machine with this mark are left out: TigerFox's own resets and ICMP
                         errors. Elsewhere the mark means nothing: a bit that somebody else sets is no way round the rules
  --allow A[/P][:PORT]   never queue TCP from and to this address (IPv6 with a port: [2001:db8::/32]:22); several times
  --offload N            make nf_tables sets for N blocked entries each, whose packets are dropped before they reach a
                         queue; TigerFox fills them (default 0: none). Needs nft. The table `inet NAME` is made anew
  --loopback             on input and output, queue the interface lo as well
  --name NAME            the chain's name (default TIGERFOX), one for each instance
  --family both|4|6      (default both)
  --frontend WHICH       auto (what `iptables` is here, default), nft or legacy
  --dry-run              print what would be done, change nothing
  --help

Take care with --hook input and --hook output: when the rules drop your own session, or --fail closed is on and nobody
listens, you are locked out. Give --allow YOUR.ADDRESS:22 first, or --fail open, and try with a timer that runs down.sh.

Where it hooks: the table mangle, at the end of the hook's chain. Connection tracking and defragmentation came before,
the table filter comes after: a packet that TigerFox lets pass is still judged by every rule there. In the table filter
a verdict ACCEPT would skip what stands behind the jump. Rules of others in mangle run before TigerFox.

--fanout flow deals connections out in turn, so N queues get equally many, and writes which queue a connection has into
bits of its connection mark; other bits of it and all packet marks stay as they are. Packets without connection
(untracked) go by --queue-balance. Where connection tracking is on, as it is then, the kernel keeps only the first of
several packets of a new ICMP "connection" that wait in a queue at the same time: pings sent back to back lose some at
the very beginning. --mark-mask none, and kernels without connection tracking: HMARK computes a packet mark from
addresses and ports (0x5446 in the upper 16 bits), one NFQUEUE rule a queue answers it, and the mark is set back to 0 in
POSTROUTING. A hash is uneven where connections are few: 200 on 8 queues give the fullest about 1.4 times the mean. HMARK
overwrites the whole mark, so packets that carry another one already are left as they are and go by --queue-balance, as
do fragments that no connection tracking put together. What remains: rules of the tables behind (filter, nat, security)
see the mark; on --hook input there is no later hook, so the local socket sees it (tcp_fwmark_accept, SO_RCVMARK); on
--hook output the packet is routed once more, as after any mark.

--bypass-mark: a packet that TigerFox sends back with a packet bit has been judged. NAME-B takes that bit away and accepts. With the
lower one it sets the connection's bit of the packet's direction; from then on NAME-K accepts UDP of that direction, and TCP but for
FIN and RST, which may end what the other direction is judged by. With both bits the first rules of NAME accept everything, before
all others and before the sets of --offload: who blocks a connection that was left takes its bits away, as TigerFox does. With the
upper packet bit NAME-B takes the connection's bits away: replies that were left alone are to be seen again. A SYN, and what
connection tracking calls RELATED, takes them away too: that is another connection, and has to be judged. Whatever else sets one of
the two packet bits lets packets pass unjudged. Two instances need masks of their own. It turns connection tracking on, as every
match of connections does.

Exit codes: 0 done, 1 failed, 2 usage, 3 missing privilege, program or kernel feature.
HELP
}

HOOKS=
QUEUES=0:0
FANOUT=balance
MASK=
MASK_DEFAULT=0x00ff0000
MASK_GIVEN=no
BYPASS=
FAIL=closed
SKIP=
ALLOW=
LOOPBACK=no
OFFLOAD=0

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage; exit 0 ;;
        --dry-run) DRY_RUN=yes; shift; continue ;;
        --loopback) LOOPBACK=yes; shift; continue ;;
        esac
        value_of "$1" $#
        case $1 in
        --hook) add_hook "$2" ;;
        --queues) QUEUES=$2 ;;
        --fanout) FANOUT=$2 ;;
        --mark-mask) MASK=$2; MASK_GIVEN=yes ;;
        --bypass-mark) BYPASS=$2 ;;
        --fail) FAIL=$2 ;;
        --skip-mark) SKIP=$2 ;;
        --offload) OFFLOAD=$2 ;;
        --allow) ALLOW="$ALLOW $2" ;;
        --name) NAME=$2 ;;
        --family) FAMILIES=$2 ;;
        --frontend) FRONTEND=$2 ;;
        *) die 2 "$1: no such option; see up.sh --help." ;;
        esac
        shift 2
    done
}

add_hook() { # each once
    case " $HOOKS " in *" $1 "*) ;; *) HOOKS="$HOOKS $1" ;; esac
}

is_number() { case $1 in '' | *[!0-9]*) false ;; *) [ "${#1}" -le 10 ] ;; esac }

is_mark() { # decimal or hexadecimal, 32 bits
    case $1 in
    0x*[!0-9a-fA-F]* | 0x) false ;;
    0x*) [ "${#1}" -le 10 ] ;;
    *) is_number "$1" && [ "$1" -le 4294967295 ] ;;
    esac
}

check_queues() {
    FIRST=${QUEUES%%:*}
    LAST=${QUEUES##*:}
    { is_number "$FIRST" && is_number "$LAST"; } || die 2 "--queues $QUEUES: use A:B or a single number, e.g. 0:7."
    case $QUEUES in "$FIRST" | "$FIRST:$LAST") ;; *) die 2 "--queues $QUEUES: use A:B or a single number, e.g. 0:7." ;; esac
    [ "$LAST" -le 65535 ] || die 2 "--queues $QUEUES: queue numbers end at 65535."
    [ "$FIRST" -le "$LAST" ] || die 2 "--queues $QUEUES: the first number is the larger one; use $LAST:$FIRST."
    COUNT=$((LAST - FIRST + 1))
    [ "$FANOUT" != flow ] || [ "$COUNT" -le 256 ] || die 2 "--fanout flow: at most 256 queues, one rule each."
}

check_mask() {
    [ "$FANOUT" = flow ] || [ $MASK_GIVEN = no ] || die 2 "--mark-mask belongs to --fanout flow."
    [ "$FANOUT-$MASK_GIVEN" != flow-no ] || [ "$COUNT" -gt 255 ] || MASK=$MASK_DEFAULT
    case $MASK in '' | none) MASK=; return ;; esac
    { is_mark "$MASK" && [ $((MASK)) -ne 0 ]; } || die 2 "--mark-mask $MASK: use the bits TigerFox may take, e.g. 0xff000000."
    SHIFT=0
    while [ $((MASK >> SHIFT & 1)) -eq 0 ]; do SHIFT=$((SHIFT + 1)); done
    room=$((MASK >> SHIFT))
    [ $((room & room + 1)) -eq 0 ] || die 2 "--mark-mask $MASK: its bits must stand side by side, e.g. 0xff000000."
    [ "$COUNT" -le "$room" ] || die 2 "--mark-mask $MASK: room for $room queues, $COUNT are asked for; give more bits."
}

check_bypass() {
    [ -n "$BYPASS" ] || return 0
    is_mark "$BYPASS" || die 2 "--bypass-mark $BYPASS: use a mask of two bits, e.g. 0x3000000."
    ORIGINAL=$((BYPASS & -BYPASS))
    REPLY=$((BYPASS ^ ORIGINAL))
    { [ $REPLY -ne 0 ] && [ $((REPLY & REPLY - 1)) -eq 0 ]; } ||
        die 2 "--bypass-mark $BYPASS: use a mask of two bits, e.g. 0x3000000."
    case $MASK in '' | none) ;; *) [ $((BYPASS & MASK)) -eq 0 ] ;; esac ||
        die 2 "--bypass-mark $BYPASS: it shares bits with --mark-mask $MASK."
    [ $((BYPASS & 0x5446ffff)) -eq 0 ] || [ "$FANOUT" != flow ] ||
        die 2 "--bypass-mark $BYPASS: a bit of it is used by --fanout flow; choose two of 0xaba90000."
}

check_skip() {
    [ -n "$SKIP" ] || return 0
    { [ "${SKIP%%/*}/${SKIP#*/}" = "$SKIP" ] && is_mark "${SKIP%%/*}" && is_mark "${SKIP#*/}" && [ $((${SKIP#*/})) -ne 0 ]; } ||
        die 2 "--skip-mark $SKIP: use VALUE/MASK, e.g. 0x100000/0x100000."
}

check_arguments() {
    check_name
    check_choices
    [ -n "$HOOKS" ] || HOOKS=forward
    for hook in $HOOKS; do
        case $hook in forward | input | output) ;; *) die 2 "--hook $hook: use forward, input or output." ;; esac
    done
    case $FANOUT in balance | flow | cpu) ;; *) die 2 "--fanout $FANOUT: use balance, flow or cpu." ;; esac
    case $FAIL in open | closed) ;; *) die 2 "--fail $FAIL: use open or closed." ;; esac
    check_queues
    is_number "$OFFLOAD" && [ "$OFFLOAD" -le 16777216 ] || die 2 "--offload $OFFLOAD: use a number up to 16777216, 0 for none."
    check_mask
    check_bypass
    check_skip
    for entry in $ALLOW; do split_allow "$entry"; done
}

split_allow() { # sets ALLOW_FAMILY, ALLOW_ADDRESS, ALLOW_PORT
    ALLOW_PORT=
    case $1 in
    '['*']':*) ALLOW_FAMILY=6; ALLOW_ADDRESS=${1#'['}; ALLOW_ADDRESS=${ALLOW_ADDRESS%%']'*}; ALLOW_PORT=${1##*']:'} ;;
    '['*']') ALLOW_FAMILY=6; ALLOW_ADDRESS=${1#'['}; ALLOW_ADDRESS=${ALLOW_ADDRESS%']'} ;;
    *:*:*) ALLOW_FAMILY=6; ALLOW_ADDRESS=$1 ;;
    *:*) ALLOW_FAMILY=4; ALLOW_ADDRESS=${1%%:*}; ALLOW_PORT=${1##*:} ;;
    *) ALLOW_FAMILY=4; ALLOW_ADDRESS=$1 ;;
    esac
    case $ALLOW_FAMILY$ALLOW_ADDRESS in
    [46] | 4*[!0-9./]* | 6*[!0-9a-fA-F:./]*) die 2 "--allow $1: use ADDRESS[/PREFIX][:PORT], IPv6 with a port in brackets." ;;
    esac
    case $1 in *:"$ALLOW_PORT") ;; *) return 0 ;; esac
    [ "$ALLOW_FAMILY$ALLOW_PORT" = 6 ] || { is_number "$ALLOW_PORT" && [ "$ALLOW_PORT" -ge 1 ] && [ "$ALLOW_PORT" -le 65535 ]; } ||
        die 2 "--allow $1: the port is a number from 1 to 65535."
}

allow_rules() { # family
    for entry in $ALLOW; do
        split_allow "$entry"
        [ "$ALLOW_FAMILY" = "$1" ] || continue
        if [ -n "$ALLOW_PORT" ]; then
            echo "-A $NAME -s $ALLOW_ADDRESS -p tcp -m tcp --dport $ALLOW_PORT -j RETURN"
            echo "-A $NAME -d $ALLOW_ADDRESS -p tcp -m tcp --sport $ALLOW_PORT -j RETURN"
        else
            echo "-A $NAME -s $ALLOW_ADDRESS -j RETURN"
            echo "-A $NAME -d $ALLOW_ADDRESS -j RETURN"
        fi
    done
}

to_queue() { # number: the target
    bypass=
    [ "$FAIL" = open ] && bypass=" --queue-bypass"
    echo "-j NFQUEUE --queue-num $1$bypass"
}

to_queues() { # the target for all of them, the kernel's choice
    if [ "$COUNT" -eq 1 ]; then
        to_queue "$FIRST"
        return
    fi
    options=
    [ "$FAIL" = open ] && options=" --queue-bypass"
    [ "$FANOUT" = cpu ] && options="$options --queue-cpu-fanout"
    echo "-j NFQUEUE --queue-balance $FIRST:$LAST$options"
}

hash_seed() { # the one in use, so that connections keep their queue; else a new one that nobody can guess
    seed=
    for family in $(families); do
        [ -n "$seed" ] || seed=$(saved "$family" | sed -n "s/^-A $NAME .* --hmark-rnd \([0-9a-fx]*\).*/\1/p" | head -n 1)
    done
    [ -n "$seed" ] || seed=0x$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
    echo "$seed"
}

hash_rules() {
    echo "-A $NAME -m mark --mark 0x0 -j HMARK --hmark-tuple src,dst,sport,dport --hmark-mod $COUNT" \
        "--hmark-offset $MARK_BASE --hmark-rnd $SEED"
    i=0
    while [ $i -lt "$COUNT" ]; do
        printf -- '-A %s -m mark --mark 0x%x %s\n' "$NAME" $((MARK_BASE + i)) "$(to_queue $((FIRST + i)))"
        i=$((i + 1))
    done
    echo "-A $NAME $(to_queues)"
    echo "-A $NAME-END -m mark --mark $MARK_BASE/$MARK_MASK_OWN -j MARK --set-xmark 0x0/0xffffffff"
}

deal_rules() { # connections that have a queue find it in NAME-Q; the others are dealt one, in turn, and find it then
    i=1
    while [ $i -le "$COUNT" ]; do
        printf -- '-A %s-Q -m connmark --mark 0x%x/%s %s\n' "$NAME" $((i << SHIFT)) "$MASK" "$(to_queue $((FIRST + i - 1)))"
        i=$((i + 1))
    done
    echo "-A $NAME -j $NAME-Q"
    echo "-A $NAME -m conntrack ! --ctstate INVALID,UNTRACKED -j CONNMARK --set-xmark 0x0/$MASK"
    i=1
    while [ $i -le "$COUNT" ]; do
        printf -- '-A %s -m connmark --mark 0x0/%s -m statistic --mode nth --every %d --packet 0' "$NAME" "$MASK" $((COUNT - i + 1))
        printf -- ' -j CONNMARK --set-xmark 0x%x/%s\n' $((i << SHIFT)) "$MASK"
        i=$((i + 1))
    done
    echo "-A $NAME -j $NAME-Q"
    echo "-A $NAME $(to_queues)"
}

bypass_rules() { # connections that are left to the kernel, and what comes back from a queue
    [ -n "$BYPASS" ] || return 0
    packet=$(printf '0x%x' "$ORIGINAL")
    back=$(printf '0x%x' "$REPLY")
    both=$(printf '0x%x' "$((BYPASS))")
    left="-m connmark --mark $both/$both -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    echo "-A $NAME -p tcp -m tcp ! --tcp-flags SYN SYN $left"
    echo "-A $NAME -p udp $left"
    echo "-A $NAME -m mark ! --mark 0x0/$both -j $NAME-B"
    echo "-A $NAME -m connmark ! --mark 0x0/$both -j $NAME-K"
    echo "-A $NAME-B -m mark --mark $back/$back -m conntrack ! --ctstate INVALID,UNTRACKED -j CONNMARK --set-xmark 0x0/$both"
    echo "-A $NAME-K -p tcp -m tcp --tcp-flags SYN SYN -j CONNMARK --set-xmark 0x0/$both"
    echo "-A $NAME-K -m conntrack --ctstate RELATED -j CONNMARK --set-xmark 0x0/$both"
    for direction in ORIGINAL REPLY; do
        [ $direction = ORIGINAL ] && bit=$packet || bit=$back
        echo "-A $NAME-B -m mark --mark $packet/$packet -m conntrack --ctstate NEW,ESTABLISHED --ctdir $direction" \
            "-j CONNMARK --set-xmark $bit/$bit"
        for protocol in 'tcp -m tcp --tcp-flags FIN,RST NONE' udp; do
            echo "-A $NAME-K -p $protocol -m connmark --mark $bit/$bit -m conntrack --ctdir $direction -j ACCEPT"
        done
    done
    echo "-A $NAME-B -j MARK --set-xmark 0x0/$both"
    echo "-A $NAME-B -j ACCEPT"
}

queue_rules() {
    if [ "$FANOUT" != flow ] || [ "$COUNT" -eq 1 ]; then
        echo "-A $NAME $(to_queues)"
    elif [ -n "$MASK" ]; then
        deal_rules
    else
        hash_rules
    fi
}

wanted_chains() {
    echo "$NAME"
    if [ -n "$BYPASS" ]; then printf '%s\n' "$NAME-B" "$NAME-K"; fi
    if [ "$FANOUT" = flow ] && [ "$COUNT" -gt 1 ]; then
        if [ -n "$MASK" ]; then echo "$NAME-Q"; else echo "$NAME-END"; fi
    fi
}

hook_rules() {
    unmarked=
    [ -z "$SKIP" ] || unmarked="-m mark ! --mark $SKIP "
    for hook in $HOOKS; do
        case $hook-$LOOPBACK in
        forward-*) echo "-A FORWARD -j $NAME" ;;
        input-no) echo "-A INPUT ! -i lo -j $NAME" ;;
        output-no) echo "-A OUTPUT ! -o lo $unmarked-j $NAME" ;;
        input-yes) echo "-A INPUT -j $NAME" ;;
        output-yes) echo "-A OUTPUT $unmarked-j $NAME" ;;
        esac
    done
    if wanted_chains | grep -q -e '-END$'; then echo "-A POSTROUTING -j $NAME-END"; fi
}

transaction() { # family: what iptables-restore is given; first what is there goes, then the new comes
    echo "*$TABLE"
    { wanted_chains; own_chains "$1"; } | sort -u | sed 's/.*/:& - [0:0]/'
    drop_jumps "$1"
    own_chains "$1" | grep -v -x -F "$(wanted_chains)" | sed 's/^/-X /'
    bypass_rules
    allow_rules "$1"
    queue_rules
    hook_rules
    echo COMMIT
}

undo() { # families that were changed and had nothing of ours before
    for family in $UNDO; do
        sh "$(dirname "$0")/down.sh" --name "$NAME" --family "$family" --frontend "$FRONTEND"
    done
}

apply() {
    UNDO=
    for family in $(families); do
        fresh=yes
        [ -z "$(own_chains "$family")" ] || fresh=no
        if ! restore "$family" "$WORK/$family"; then
            undo
            return 1
        fi
        [ $fresh = no ] || UNDO="$UNDO $family"
    done
}

write_transactions() {
    for family in $(families); do transaction "$family" >"$WORK/$family"; done
}

apply_or_hash() { # connections can only be dealt out where they are tracked
    apply && return
    if [ -n "$MASK" ] && [ $MASK_GIVEN = no ]; then
        say "$PROGRAM: connections cannot be dealt out here (see above); --fanout flow goes by a hash."
        MASK=
        write_transactions
        apply && return
    fi
    die 1 "$(tool "$family" -restore) refused the rules above; what was changed is taken back." \
        "A missing match or target: tigerfox doctor says which; --fanout balance needs NFQUEUE only."
}

main() {
    read_arguments "$@"
    check_arguments
    need_families
    [ "$DRY_RUN" = yes ] || { need_tools; need_admin; }
    [ "$DRY_RUN" = no ] || may_admin ||
        say "$PROGRAM: without CAP_NET_ADMIN the present rules cannot be read; shown as for an empty table."
    SEED=$(hash_seed)
    WORK=$(mktemp -d) || die 1 "no temporary directory; free space in ${TMPDIR:-/tmp}."
    trap 'rm -rf "$WORK"' EXIT
    trap 'exit 1' HUP INT TERM
    write_transactions
    if [ "$DRY_RUN" = no ]; then
        apply_or_hash
        if [ "$OFFLOAD" -eq 0 ]; then
            offload_down
        elif ! offload_up; then
            undo
            die 3 "the sets of --offload cannot be made; what was changed is taken back. Leave --offload away."
        fi
        return
    fi
    for family in $(families); do
        echo "$(tool "$family" -restore) -w 10 --noflush <<'END'"
        cat "$WORK/$family"
        echo END
    done
    [ "$OFFLOAD" -ne 0 ] || { offload_down; return; }
    echo "nft -f - <<'END'"
    offload_transaction
    echo END
}

main "$@"
