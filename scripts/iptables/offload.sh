# shellcheck shell=sh
# Sourced by up.sh and down.sh: the sets that hold blocked addresses and connections, and the rules that drop by them.
#
# They stand in a table of nf_tables of their own, `inet NAME`, whose chains are called just before the table mangle of
# either iptables front end. What it takes away goes with the table. The elements are TigerFox's to put in, and so is the
# flag `dormant` of the table to take away: as long as nothing is blocked no packet asks anything.

offload_sets() { # family (4 or 6)
    address=ipv4_addr
    [ "$1" = 6 ] && address=ipv6_addr
    ports="inet_proto . inet_service . inet_service"
    # Expired elements count until the kernel collects them, and two directions make two elements.
    size=$((OFFLOAD + OFFLOAD / 4 + 1024))
    echo "add set inet $NAME source$1 { type $address; flags timeout; size $size; }"
    echo "add set inet $NAME destination$1 { type $address; flags timeout; size $size; }"
    echo "add set inet $NAME pair$1 { type $address . $address; flags timeout; size $((size * 2)); }"
    echo "add set inet $NAME connection$1 { type $address . $address . $ports; flags timeout; size $((size * 2)); }"
}

offload_rules() { # family
    ip=ip
    [ "$1" = 6 ] && ip=ip6
    five="$ip saddr . $ip daddr . meta l4proto . th sport . th dport"
    echo "add chain inet $NAME blocked$1"
    echo "add rule inet $NAME blocked$1 $ip saddr @source$1 counter name source drop"
    echo "add rule inet $NAME blocked$1 $ip daddr @destination$1 counter name destination drop"
    echo "add rule inet $NAME blocked$1 $ip saddr . $ip daddr @pair$1 counter name pair drop"
    echo "add rule inet $NAME blocked$1 $five @connection$1 counter name connection drop"
}

offload_allowed() {
    [ -n "$ALLOW" ] || return 0
    echo "add chain inet $NAME allowed"
    for entry in $ALLOW; do
        split_allow "$entry"
        ip=ip
        [ "$ALLOW_FAMILY" = 6 ] && ip=ip6
        there= back=
        [ -z "$ALLOW_PORT" ] || there="tcp dport $ALLOW_PORT" back="tcp sport $ALLOW_PORT"
        echo "add rule inet $NAME allowed $ip saddr $ALLOW_ADDRESS $there accept"
        echo "add rule inet $NAME allowed $ip daddr $ALLOW_ADDRESS $back accept"
    done
}

offload_hook() { # hook: what the chain in mangle leaves out is left out here
    echo "add chain inet $NAME $1 { type filter hook $1 priority -151; policy accept; }"
    case $1-$LOOPBACK in
    input-no) echo "add rule inet $NAME input iifname lo accept" ;;
    output-no) echo "add rule inet $NAME output oifname lo accept" ;;
    esac
    [ "$1-$SKIP" = "$1-" ] || [ "$1" != output ] ||
        echo "add rule inet $NAME output meta mark and $((${SKIP#*/})) == $((${SKIP%%/*})) accept"
    # What blocks a connection that is left to the kernel takes its mark away; without it every packet asks all sets.
    both=$(printf '0x%x' "$((BYPASS))")
    [ -z "$BYPASS" ] || echo "add rule inet $NAME $1 ct mark and $both == $both accept"
    [ -z "$ALLOW" ] || echo "add rule inet $NAME $1 jump allowed"
    for family in $(families); do echo "add rule inet $NAME $1 meta nfproto ipv$family goto blocked$family"; done
}

offload_transaction() {
    # Dormant: hooked in nowhere, until who fills the sets has something to drop.
    printf 'add table inet %s\ndelete table inet %s\nadd table inet %s { flags dormant; }\n' "$NAME" "$NAME" "$NAME"
    # Both families have their sets, so that whoever fills them need not ask; rules only where they are wanted.
    for family in 4 6; do offload_sets $family; done
    for counter in source destination pair connection; do echo "add counter inet $NAME $counter"; done
    for family in $(families); do offload_rules "$family"; done
    offload_allowed
    for hook in $HOOKS; do offload_hook "$hook"; done
}

offload_up() {
    command -v nft >/dev/null 2>&1 || {
        say "$PROGRAM: --offload needs nft. Install it: apt-get install nftables"
        return 1
    }
    offload_transaction | nft -f -
}

offload_there() { may_admin && command -v nft >/dev/null 2>&1 && nft list table inet "$NAME" >/dev/null 2>&1; }

offload_down() {
    offload_there || return 0
    if [ "$DRY_RUN" = yes ]; then
        echo "nft delete table inet $NAME"
    else
        nft delete table inet "$NAME"
    fi
}
