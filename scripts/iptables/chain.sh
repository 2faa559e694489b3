# shellcheck shell=sh disable=SC2034
# Sourced by up.sh, down.sh and status.sh: which tools are asked, and what belongs to TigerFox.
#
# Everything TigerFox adds stands in the table mangle: the chain NAME, beside it NAME-Q and NAME-END where a fan-out
# needs them, NAME-B and NAME-K where connections may be left to the kernel, and one jump in each hook.
# Nothing else is read as ours and nothing else is touched.

TABLE=mangle
NAME=TIGERFOX
FAMILIES=both
FRONTEND=auto
DRY_RUN=no
MARK_BASE=0x54460000            # packet marks of `--fanout flow`: "TF" in the upper half, the queue's rule in the lower
MARK_MASK_OWN=0xffff0000

say() { printf '%s\n' "$*" >&2; }

die() { # exit code, message
    code=$1
    shift
    say "$PROGRAM: $*"
    exit "$code"
}

value_of() { # option, number of arguments left: complains when the option's value is missing
    [ "$2" -ge 2 ] || die 2 "$1 needs a value; see $PROGRAM --help."
}

check_name() {
    case $NAME in
    '' | -* | *[!A-Za-z0-9_-]*) die 2 "--name $NAME: use letters, digits, _ and -." ;;
    *-Q | *-END | *-B | *-K) die 2 "--name $NAME: names that end in -Q, -END, -B or -K are used inside; choose another." ;;
    INPUT | FORWARD | OUTPUT | PREROUTING | POSTROUTING | ACCEPT | DROP | RETURN | QUEUE)
        die 2 "--name $NAME: iptables has that name itself; choose another." ;;
    esac
    [ "${#NAME}" -le 20 ] || die 2 "--name $NAME: at most 20 characters."
}

check_choices() {
    case $FAMILIES in both | 4 | 6) ;; *) die 2 "--family $FAMILIES: use both, 4 or 6." ;; esac
    case $FRONTEND in auto | nft | legacy) ;; *) die 2 "--frontend $FRONTEND: use auto, nft or legacy." ;; esac
}

tool() { # family, what: the command's name; what is empty, -save or -restore
    base=iptables
    [ "$1" = 6 ] && base=ip6tables
    case $FRONTEND in
    auto) echo "$base$2" ;;
    *) echo "$base-$FRONTEND$2" ;;
    esac
}

need_tools() {
    for family in $(families); do
        for part in -save -restore; do
            command -v "$(tool "$family" "$part")" >/dev/null 2>&1 ||
                die 3 "$(tool "$family" "$part") is not there. Install it: apt-get install iptables"
        done
    done
}

may_admin() { # CAP_NET_ADMIN is bit 12
    effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status 2>/dev/null)
    [ -n "$effective" ] && [ $((0x$effective >> 12 & 1)) -eq 1 ]
}

need_admin() {
    may_admin || die 3 "CAP_NET_ADMIN is needed to read and write netfilter rules. Run: sudo $0 $ARGUMENTS"
}

families() { # "4", "6" or both, one a line; IPv6 only where the kernel has it
    [ "$FAMILIES" = 6 ] || echo 4
    if [ "$FAMILIES" != 4 ]; then
        if [ -e /proc/net/if_inet6 ]; then echo 6; fi
    fi
}

need_families() {
    if [ "$FAMILIES" != 4 ] && [ ! -e /proc/net/if_inet6 ]; then
        [ "$FAMILIES" = 6 ] && die 3 "this kernel runs without IPv6. Boot it without ipv6.disable=1, or use --family 4."
        say "$PROGRAM: this kernel runs without IPv6; IPv4 only."
    fi
}

saved() { # family: the table as it is; nothing when it cannot be read
    may_admin && "$(tool "$1" -save)" -t "$TABLE" 2>/dev/null
}

own_chains() { # family: those of our chains that exist
    saved "$1" | sed -n "s/^:\(${NAME}\|${NAME}-Q\|${NAME}-END\|${NAME}-B\|${NAME}-K\) .*/\1/p"
}

jump_pattern() { # the jumps that up.sh adds, as they stand in the table
    unmarked=" -m mark ! --mark [0-9a-fx/]+"
    echo "^-A (FORWARD|INPUT( ! -i lo)?|OUTPUT( ! -o lo)?($unmarked)?) -j $NAME\$|^-A POSTROUTING -j $NAME-END\$"
}

own_jumps() { # family
    saved "$1" | grep -E -e "$(jump_pattern)"
}

foreign_jumps() { # family: rules of others that lead into our chains
    saved "$1" | grep -E -e "-[jg] (${NAME}|${NAME}-Q|${NAME}-END|${NAME}-B|${NAME}-K)( |\$)" |
        grep -E -v -e "^-A (${NAME}|${NAME}-Q|${NAME}-END|${NAME}-B|${NAME}-K) " -e "$(jump_pattern)"
}

drop_jumps() { # family: the lines for iptables-restore that take our jumps away
    own_jumps "$1" | sed 's/^-A/-D/'
}

restore() { # family, file of lines: one transaction, waiting for the lock of other programs
    "$(tool "$1" -restore)" -w 10 --noflush <"$2"
}
