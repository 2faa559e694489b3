#!/bin/sh
# Plans, makes and removes the CPU-pinned deployment of TigerFox. See --help.
#
# What it owns: one unit file, the affinities of one interface's interrupts and its RPS masks. The values from before are
# kept in the record (RECORD below): "boot ID" first, then "value PATH OLD" and "unit PATH", one a line. Whatever --apply
# changes is written there before it changes, so --remove undoes exactly that, also after an --apply that failed half-way.
set -u
PROGRAM=deploy-pinned.sh
MARK="# Written by TigerFox's deploy-pinned.sh; remove with deploy-pinned.sh --remove."

usage() {
    cat <<'HELP'
Usage: deploy-pinned.sh --interface IF [--interface IF]... --rules PATH... [options]     show the plan
       deploy-pinned.sh ... --apply                                                      make it so
       deploy-pinned.sh --remove [--name NAME] [--dry-run]                               undo it

One queue and one worker a core, the rest of the machine on the housekeeping cores, the interfaces' interrupts on the
worker cores, RPS where an interface has fewer receive queues than there are workers, and a systemd unit.

  --interface IF         a network interface that the filtered traffic comes in by; several times
  --rules PATH           rule file or folder; several times
  --var NAME=VALUE       a rule variable, such as HOME_NET=[10.0.0.0/8]; several times
  --housekeeping LIST    cores for the supervisor, the event writer and everything else (default: the first core)
  --cores LIST           worker cores, such as 2-5,7 (default: all that are online and not housekeeping)
  --first-queue N        queues N, N+1, ... (default 0)
  --fanout MODE          balance, flow or cpu (default flow: both directions of a connection on one queue)
  --hook HOOK            forward (default), input or output
  --fail open|closed     (default closed)
  --config FILE          TOML file with everything else; command line options win
  --name NAME            of the unit (default tigerfox)
  --tigerfox PATH        the program (default: what PATH finds)
  --root DIR             work on a tree elsewhere, for images and tests; nothing is started
  --apply                write; without it only the plan is printed
  --tune                 write the interrupts and RPS masks alone (the unit does that at each start)
  --remove               put everything back as it was, and remove the unit
  --help

After a reboot interrupts and masks are as before; the unit sets them again. Where irqbalance runs, it moves interrupts
back: the plan says so. With --hook input, read about lock-outs in scripts/iptables/up.sh --help first.

Exit codes: 0 done, 1 failed, 2 usage, 3 missing privilege or system feature.
HELP
}

INTERFACES=
RULES=
VARS=
HOUSEKEEPING=
CORES=
FIRST=0
FANOUT=flow
HOOK=forward
FAIL=closed
CONFIG=
NAME=tigerfox
BINARY=
ROOT=
ACTION=plan

say() { printf '%s\n' "$*" >&2; }

die() { # exit code, message
    code=$1
    shift
    say "$PROGRAM: $*"
    exit "$code"
}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$(pwd)/$1" ;; esac }

read_arguments() {
    ORIGINAL=$*
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage; exit 0 ;;
        --apply) ACTION=apply; shift; continue ;;
        --tune) ACTION=tune; shift; continue ;;
        --remove) [ "$ACTION" = plan ] || die 2 "--remove stands alone."; ACTION=remove; shift; continue ;;
        --dry-run) [ "$ACTION" = remove ] && ACTION=show-remove; shift; continue ;;
        esac
        [ $# -ge 2 ] || die 2 "$1 needs a value; see $PROGRAM --help."
        case $2 in *[[:space:]\"\'%\\]*) die 2 "$1 '$2': blanks, quotes, % and \\ cannot stand in a unit file; rename it." ;; esac
        case $1 in
        --interface) INTERFACES="$INTERFACES $2" ;;
        --rules) RULES="$RULES $(absolute "$2")" ;;
        --var) VARS="$VARS $2" ;;
        --housekeeping) HOUSEKEEPING=$2 ;;
        --cores) CORES=$2 ;;
        --first-queue) FIRST=$2 ;;
        --fanout) FANOUT=$2 ;;
        --hook) HOOK=$2 ;;
        --fail) FAIL=$2 ;;
        --config) CONFIG=$(absolute "$2") ;;
        --name) NAME=$2 ;;
        --tigerfox) BINARY=$(absolute "$2") ;;
        --root) ROOT=${2%/} ;;
        *) die 2 "$1: no such option; see $PROGRAM --help." ;;
        esac
        shift 2
    done
}

names_in() { # folder
    for path in "$1"/*; do [ ! -e "$path" ] || echo "${path##*/}"; done
}

expand() { # "2-4,7" to "2 3 4 7"
    echo "$1" | tr ',' '\n' | awk -F- '
        !/^[0-9]+(-[0-9]+)?$/ { exit 1 }
        { last = NF == 2 ? $2 : $1 }
        last - $1 > 4095 || last + 0 < $1 + 0 { exit 1 }
        { for (i = $1 + 0; i <= last + 0; i++) printf "%s%d", n++ ? " " : "", i }'
}

expanded() { # option, list
    expand "$2" || die 2 "$1 $2: write cores as 2-5,7."
}

joined() { echo "$*" | tr ' ' ','; }

check_arguments() {
    case $NAME in '' | *[!A-Za-z0-9_-]*) die 2 "--name $NAME: use letters, digits, _ and -." ;; esac
    UNIT=$ROOT/etc/systemd/system/$NAME.service
    RECORD=$ROOT/var/lib/tigerfox-deploy/$NAME
    case $ACTION in *remove) return ;; esac
    case $FANOUT in balance | flow | cpu) ;; *) die 2 "--fanout $FANOUT: use balance, flow or cpu." ;; esac
    case $HOOK in forward | input | output) ;; *) die 2 "--hook $HOOK: use forward, input or output." ;; esac
    case $FAIL in open | closed) ;; *) die 2 "--fail $FAIL: use open or closed." ;; esac
    case $FIRST in '' | *[!0-9]*) die 2 "--first-queue $FIRST: use a number." ;; esac
    [ -n "$INTERFACES" ] || die 2 "name at least one --interface; there are: $(names_in "$ROOT/sys/class/net" | tr '\n' ' ')"
    for interface in $INTERFACES; do
        [ -d "$ROOT/sys/class/net/$interface" ] || die 2 "--interface $interface: no such interface; see: ip link"
    done
    [ -n "$RULES$CONFIG" ] || [ "$ACTION" = tune ] || die 2 "name rule files with --rules, or a --config that does."
}

choose_cores() { # sets WORKERS, KEEPERS (lists with blanks) and COUNT
    online=$(expand "$(cat "$ROOT/sys/devices/system/cpu/online")") || die 1 "/sys/devices/system/cpu/online cannot be read."
    KEEPERS=${online%% *}
    [ -z "$HOUSEKEEPING" ] || KEEPERS=$(expanded --housekeeping "$HOUSEKEEPING") || exit 2
    if [ -n "$CORES" ]; then
        WORKERS=$(expanded --cores "$CORES") || exit 2
    else
        WORKERS=$(for core in $online; do in_list "$core" "$KEEPERS" || printf '%s ' "$core"; done)
        WORKERS=${WORKERS% }
        [ -n "$WORKERS" ] || WORKERS=$KEEPERS
    fi
    for core in $WORKERS $KEEPERS; do in_list "$core" "$online" || die 2 "core $core is not online; there are: $online"; done
    COUNT=$(echo "$WORKERS" | wc -w)
    LAST=$((FIRST + COUNT - 1))
    [ "$LAST" -le 65535 ] || die 2 "--first-queue $FIRST: queue numbers end at 65535."
}

in_list() { case " $2 " in *" $1 "*) true ;; *) false ;; esac }

nth() { # number from 0, list: goes round
    shift_by=$(($1 % $(echo "$2" | wc -w) + 1))
    echo "$2" | cut -d ' ' -f $shift_by
}

interrupts() { # interface: its interrupts, in order
    if [ -d "$ROOT/sys/class/net/$1/device/msi_irqs" ]; then
        names_in "$ROOT/sys/class/net/$1/device/msi_irqs" | sort -n
    else
        awk -v name="$1" '{
            for (i = 2; i <= NF; i++) if ($i == name || index($i, name "-") == 1) { sub(":", "", $1); print $1; break }
        }' "$ROOT/proc/interrupts" 2>/dev/null
    fi
}

core_mask() { # list: as /sys takes it, 32 bits a group
    echo "$1" | awk 'BEGIN { top = 0 } {
        for (i = 1; i <= NF; i++) { group = int($i / 32); bit[group] += 2 ^ ($i % 32); if (group > top) top = group }
        printf "%x", bit[top]; for (g = top - 1; g >= 0; g--) printf ",%08x", bit[g]; print "" }'
}

settings() { # "PATH VALUE" of everything that is tuned; paths without --root
    for interface in $INTERFACES; do
        i=0
        for number in $(interrupts "$interface"); do
            [ -e "$ROOT/proc/irq/$number/smp_affinity_list" ] || continue
            echo "/proc/irq/$number/smp_affinity_list $(nth $i "$WORKERS")"
            i=$((i + 1))
        done
        # Enough receive queues spread the work by themselves; otherwise every worker core takes its share.
        mask=0
        [ "$(receive_queues "$interface" | wc -l)" -ge "$COUNT" ] && [ $i -gt 0 ] || mask=$(core_mask "$WORKERS")
        for queue in $(receive_queues "$interface"); do echo "$queue/rps_cpus $mask"; done
    done
}

receive_queues() { # interface
    for queue in "$ROOT/sys/class/net/$1/queues"/rx-*; do
        [ ! -e "$queue/rps_cpus" ] || echo "${queue#"$ROOT"}"
    done
}

program() { # the command of the unit
    [ -n "$BINARY" ] || BINARY=$(command -v tigerfox || echo /usr/local/bin/tigerfox)
    echo "$BINARY"
}

start_command() {
    printf '%s start --queues %s --pin %s --fail %s' "$(program)" "$FIRST:$LAST" "$(joined "$WORKERS")" "$FAIL"
    printf ' --iptables --hook %s --fanout %s' "$HOOK" "$FANOUT"
    [ -z "$CONFIG" ] || printf ' --config %s' "$CONFIG"
    for path in $RULES; do printf ' --rules %s' "$path"; done
    for item in $VARS; do printf ' --var %s' "$item"; done
    echo
}

unit_text() {
    script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
    tune="--tune --name $NAME --cores $(joined "$WORKERS") --housekeeping $(joined "$KEEPERS")"
    for interface in $INTERFACES; do tune="$tune --interface $interface"; done
    cat <<END
$MARK
[Unit]
Description=TigerFox firewall, one worker a core
Documentation=man:iptables-extensions(8)
Wants=network-pre.target
Before=network-pre.target
After=local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStartPre=-+$script $tune
ExecStart=$(start_command)
ExecReload=$(program) reload
ExecStopPost=-$(program) stop
KillMode=mixed
Restart=always
RestartSec=1
CPUAffinity=$WORKERS $KEEPERS
RuntimeDirectory=tigerfox
RuntimeDirectoryMode=0700
StateDirectory=tigerfox
StateDirectoryMode=0700
LogsDirectory=tigerfox
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_KILL
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
END
}

has_systemd() { [ -d "$ROOT/run/systemd/system" ]; }

print_plan() {
    printf '%-10s %-8s %s\n' queue core runs
    i=0
    for core in $WORKERS; do
        printf '%-10s %-8s %s\n' $((FIRST + i)) "$core" "worker"
        i=$((i + 1))
    done
    printf '%-10s %-8s %s\n' - "$(joined "$KEEPERS")" "supervisor, event writer, everything else"
    echo
    printf '%-52s %-12s %s\n' setting "is" "becomes"
    settings | while read -r path value; do printf '%-52s %-12s %s\n' "$path" "$(cat "$ROOT$path")" "$value"; done
    for interface in $INTERFACES; do
        [ -n "$(interrupts "$interface")" ] ||
            echo "$interface has no interrupts of its own (virtual, or its driver shares them); RPS spreads its packets."
    done
    echo
    if has_systemd; then
        echo "$UNIT:"
        unit_text | sed 's/^/    /'
    else
        echo "systemd does not run here: no unit is written. Start it with:"
        echo "    $(start_command)"
    fi
    warnings
    [ "$ACTION" != plan ] || echo "Nothing is changed. To do it: $0 $ORIGINAL --apply"
}

warnings() {
    both=$(for core in $WORKERS; do if in_list "$core" "$KEEPERS"; then printf ' %s' "$core"; fi; done)
    [ -z "$both" ] || say "$PROGRAM: core$both is worker and housekeeping core at once; more cores would separate them."
    if [ -z "$ROOT" ] && pidof irqbalance >/dev/null 2>&1; then
        say "$PROGRAM: irqbalance runs and will move the interrupts back. Stop it: systemctl disable --now irqbalance"
    fi
}

need_root() {
    [ -n "$ROOT" ] || [ "$(id -u)" -eq 0 ] || die 3 "root is needed to write. Run: sudo $0 $ORIGINAL"
}

boot_id() { cat "$ROOT/proc/sys/kernel/random/boot_id" 2>/dev/null || echo none; }

open_record() { # values of another boot are gone, and interrupts may have other numbers now
    mkdir -p "$(dirname "$RECORD")" || die 1 "$(dirname "$RECORD") cannot be made."
    [ -e "$RECORD" ] || echo "boot $(boot_id)" >"$RECORD"
    if ! grep -q -x "boot $(boot_id)" "$RECORD"; then
        { echo "boot $(boot_id)"; grep '^unit ' "$RECORD"; } >"$RECORD.new"
        mv "$RECORD.new" "$RECORD"
    fi
}

note_value() { # path: once, before it is changed for the first time
    grep -q "^value $1 " "$RECORD" || echo "value $1 $(cat "$ROOT$1")" >>"$RECORD"
}

write_value() { # path, value
    { echo "$2" >"$ROOT$1"; } 2>/dev/null || say "$PROGRAM: $1 stays $(cat "$ROOT$1"): the kernel or its driver manages it."
}

tune() {
    open_record
    settings | while read -r path value; do
        [ "$(cat "$ROOT$path")" != "$value" ] || continue
        note_value "$path"
        write_value "$path" "$value"
    done
}

write_unit() {
    if [ -e "$UNIT" ] && ! grep -q -x -F "$MARK" "$UNIT"; then
        die 1 "$UNIT is not ours. Choose another --name, or move it away."
    fi
    grep -q -x "unit ${UNIT#"$ROOT"}" "$RECORD" || echo "unit ${UNIT#"$ROOT"}" >>"$RECORD"
    mkdir -p "$(dirname "$UNIT")"
    { unit_text >"$UNIT.new" && mv "$UNIT.new" "$UNIT"; } || die 1 "$UNIT cannot be written."
    [ -n "$ROOT" ] || systemctl daemon-reload
    say "$PROGRAM: written. Start it now and at boot: systemctl enable --now $NAME"
}

remove() { # how: "remove" does it, "show-remove" says it
    [ -e "$RECORD" ] || { say "$PROGRAM: nothing of $NAME is deployed here."; return; }
    boot=$(sed -n 's/^boot //p' "$RECORD")
    while read -r kind path value; do
        case $kind in
        unit) remove_unit "$1" "$ROOT$path" ;;
        value) [ "$boot" != "$(boot_id)" ] || [ ! -e "$ROOT$path" ] || remove_value "$1" "$path" "$value" ;;
        esac
    done <"$RECORD"
    [ "$1" = show-remove ] || rm -f "$RECORD"
    [ "$1" = show-remove ] || rmdir "$(dirname "$RECORD")" 2>/dev/null || true
}

remove_unit() { # how, file
    [ -e "$2" ] && grep -q -x -F "$MARK" "$2" || return 0
    if [ "$1" = show-remove ]; then
        echo "systemctl disable --now $NAME; rm $2; systemctl daemon-reload"
        return
    fi
    [ -n "$ROOT" ] || systemctl disable --now "$NAME"
    rm -f "$2"
    [ -n "$ROOT" ] || systemctl daemon-reload
}

remove_value() { # how, path, value
    if [ "$1" = show-remove ]; then echo "echo $3 >$2"; else write_value "$2" "$3"; fi
}

main() {
    read_arguments "$@"
    check_arguments
    case $ACTION in
    remove) need_root; remove remove ;;
    show-remove) remove show-remove ;;
    *)
        choose_cores
        case $ACTION in
        plan) print_plan ;;
        tune) need_root; tune ;;
        apply)
            need_root
            print_plan
            tune
            if has_systemd; then write_unit; fi
            ;;
        esac
        ;;
    esac
}

main "$@"
