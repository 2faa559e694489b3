"""What an instance is doing, from its shared memory and from the kernel: losses first.

The supervisor answers with this over its control socket; where it does not answer, the command line maps the same files
read-only and says the same, without what only the supervisor knows.
"""

import contextlib
import json
import time

from tigerfox.control.instance import Instance
from tigerfox.control.service import ask
from tigerfox.errors import InstanceError, TigerFoxError

_ASK_SECONDS = 3.0
_SUMS = ("packets", "bytes", "accepted", "dropped", "rejected", "alerts", "blocks_added", "blocks_refused",
         "matches_cut", "replies_failed", "truncated", "bad_messages", "fragments_completed", "fragments_duplicate",
         "fragments_overlapping", "fragments_expired", "fragments_displaced", "fragments_rejected", "flows_created",
         "flows_expired", "flows_evicted", "flows_rejected", "flowbits_rejected", "sessions_opened", "sessions_displaced",
         "sessions_rejected", "sessions_discarded", "streams_unfollowed", "streams_refused", "bypassed_flows", "bypass_marks",
         "replies_left", "replies_taken_back", "probes_mended", "candidates", "candidates_cut")
_PER_WORKER = ("packets", "accepted", "dropped", "alerts", "restarts", "generation", "lost_enobufs", "lost_ids",
               "verdict_errors", "send_errors", "truncated")
_LOSSES = (
    ("lost_enobufs", "times the kernel could not deliver messages (ENOBUFS)"),
    ("lost_ids", "packets that passed or fell unseen: the socket was full (ids missing)"),
    ("unseen", "packets that passed unseen: the queue was full, or nobody listened"),
    ("queue_dropped", "packets dropped by the kernel: queue full"),
    ("user_dropped", "packets dropped by the kernel: socket full"),
    ("verdict_errors", "verdicts that the kernel refused"),
    ("send_errors", "sends of verdicts that failed"),
    ("truncated", "messages cut by the receive buffer"),
    ("events_lost", "events overwritten before they were written"),
    ("lines_lost", "EVE lines that the file did not take"),
)


def status(run_dir=None):
    """Return the status of the instance in ``run_dir``, a dict; raises InstanceError or PrivilegeError."""
    instance = Instance(run_dir)
    pid = instance.require()
    offered, left = _chain_counts(instance)
    try:
        found = ask(str(instance.socket), {"do": "status"}, _ASK_SECONDS)
    except InstanceError:
        warning = f"the supervisor (pid {pid}) does not answer; read from {instance.run_dir}"
        found = _from_files(instance) | {"warning": warning}
    if offered is not None:
        found["losses"]["unseen"] = unseen(offered, found["workers"])
    found["bypass"] = _bypass(found["totals"], left)
    return found


def _bypass(totals, left):
    """Connections that no rule can match any more, packets that took the mark to them, those whose replies alone no rule reads,
    packets that asked such replies back, keep-alive probes that got the true byte, and what the kernel accepted of both.

    None: unknown. Connections are known where the rules look at more than headers; packets that waited in the queue together
    take the mark more than once.
    """
    return {"flows": totals["bypassed_flows"] if totals["flows_created"] else None, "marks": totals["bypass_marks"],
            "replies": totals["replies_left"], "taken_back": totals["replies_taken_back"],
            "mended": totals["probes_mended"],
            "packets": left and left["packets"], "bytes": left and left["bytes"]}


def _chain_counts(instance):
    """Packets that the chain sent to the queues, and what it accepted without; (None, None) where it is not ours or not to be read.
    """
    from tigerfox.config import from_dict
    from tigerfox.control.netfilter import packets_left, packets_offered

    with contextlib.suppress(OSError, ValueError, KeyError, TigerFoxError):
        about = json.loads(instance.settings.read_text(encoding="utf-8"))
        if about["hooked"]:
            config = from_dict(about["settings"])
            return packets_offered(config), packets_left(config)
    return None, None


def unseen(offered, workers):
    """Return how many of the packets ``offered`` were given no id and not counted as dropped: the kernel let them pass.

    A packet that goes through the hook again is offered again and gets an id again. Ids and their sum wrap at 2^32. The
    offers have to be counted before the ids: packets that come in between make the answer too small, never too large.
    """
    counted = sum(worker["id_sequence"] + worker["queue_dropped"] for worker in workers)
    difference = (offered - counted) % (1 << 32)
    return difference if difference < 1 << 31 else 0


def _from_files(instance):
    from tigerfox.control.offload import read_report as read_offload
    from tigerfox.dataplane.blocks import Blocks
    from tigerfox.dataplane.queue import queue_rows
    from tigerfox.dataplane.rates import Rates
    from tigerfox.dataplane.stats import WorkerPage
    from tigerfox.telemetry.eve import read_report

    about = {}
    with contextlib.suppress(OSError, ValueError):
        about = json.loads(instance.settings.read_text(encoding="utf-8"))
    pages = {number: WorkerPage.open(str(path)) for number, path in instance.pages().items()}
    return collect(about, pages, Blocks.open(str(instance.blocks)), Rates.open(str(instance.rates)), queue_rows(),
                   {"eve": read_report(instance), "offload": read_offload(instance)}, {})


def collect(about, pages, blocks, rates, rows, reports, states):
    """Return the status as a dict of plain values.

    ``about`` is what the supervisor says of itself, ``pages`` are WorkerPages by queue, ``rows`` is what queue_rows()
    says, ``reports`` those of the event writer (eve), the block offload and the inspectors (which may be missing),
    ``states`` what the supervisor knows of each worker, by queue.
    """
    eve, offload = reports["eve"], reports["offload"]
    snapshots = {number: page.snapshot() for number, page in pages.items()}
    workers = [_worker(number, counts, rows.get(number, {}), states.get(number, {}))
               for number, counts in snapshots.items()]
    total = {name: sum(counts[name] for counts in snapshots.values()) for name in _SUMS}
    return {
        "version": about.get("version"), "pid": about.get("pid"), "started": about.get("started"),
        "uptime": round(time.time() - about["started"], 1) if "started" in about else None,
        "losses": _losses(workers, eve), "workers": workers, "totals": total,
        "reasons": _reasons(snapshots.values()),
        "rules": {name: about.get(name) for name in ("rules", "generation", "left_out")},
        "blocks": blocks.counters(), "offload": offload, "rates": rates.counters(),
        "events": {"written": sum(counts["events_written"] for counts in snapshots.values()), "eve": eve},
        "iptables": about.get("hooked"), "fanout": about.get("fanout"), "inspectors": reports.get("inspectors", []),
    }


def _worker(number, counts, row, state):
    return {
        "queue": number, "pid": counts["pid"], "cpu": counts["cpu"], "state": state.get("state", _life(counts["pid"])),
        "heartbeat_age": round(state["age"], 2) if "age" in state else None,
        **{name: counts[name] for name in _PER_WORKER},
        "waiting": row.get("waiting"), "id_sequence": row.get("id_sequence", 0), "queue_dropped": row.get("queue_dropped", 0),
        "user_dropped": row.get("user_dropped", 0),
        "batch": round(counts["packets"] / counts["receives"], 1) if counts["receives"] else None,
    }


def _life(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            letter = stream.read().rpartition(")")[2].split()[0]
    except OSError:
        return "down"
    return "stopped" if letter in "Tt" else "running"


def _losses(workers, eve):
    found = {name: sum(worker[name] for worker in workers)
             for name, _ in _LOSSES if name not in ("unseen", "events_lost", "lines_lost")}
    return found | {"unseen": None, "events_lost": eve.get("lost_events", 0), "lines_lost": eve.get("lost_lines", 0)}


def _reasons(snapshots):
    from tigerfox.dataplane.reason import REASONS

    totals = [sum(column) for column in zip(*(counts["reasons"] for counts in snapshots), strict=True)]
    return {row[0]: {"packets": count, "class": row[1], "meaning": row[2]}
            for row, count in zip(REASONS, totals, strict=False) if count}


# Text

def render(found, as_json):
    """Return a status as text or JSON."""
    if as_json:
        return json.dumps(found)
    lines = [found["warning"]] if "warning" in found else []
    for part in (_head, _loss_lines, _worker_lines, _inspector_lines, _reason_lines, _table_lines):
        made = part(found)
        lines += [*made, ""] if made else []
    return "\n".join(lines[:-1])


def _head(found):
    rules = found["rules"]
    left_out = f", {rules['left_out']} left out" if rules["left_out"] else ""
    return [f"tigerfox {found['version']}, pid {found['pid']}, up {_span(found['uptime'])}; {rules['rules']} rules"
            f"{left_out}, generation {rules['generation']}; iptables {'hooked' if found['iptables'] else 'not ours'}"]


def _span(seconds):
    if seconds is None:
        return "?"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d}:{minutes:02d}:{seconds:02d}" if days else f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _loss_lines(found):
    lost = [(found["losses"][name], text) for name, text in _LOSSES if found["losses"][name]]
    lines = [f"LOST {count:>12,}  {text}" for count, text in lost]
    return lines or ["no loss: no packet unseen, no verdict refused, no event lost"]


def _table(head, rows):
    cells = [head, *([("-" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool)
                       else str(value)) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _worker_lines(found):
    names = ("queue", "pid", "cpu", "state", "heartbeat_age", "packets", "accepted", "dropped", "alerts", "waiting",
             "batch", "restarts", "generation")
    head = [{"heartbeat_age": "age/s", "generation": "rules"}.get(name, name) for name in names]
    rows = [[str(worker[name]) if name == "pid" else worker[name] for name in names] for worker in found["workers"]]
    return _table(head, rows)


def _inspector_lines(found):
    names = ("name", "queue", "pid", "state", "given", "accepted", "dropped", "blocked", "policy_verdicts", "raised", "waiting",
             "p50_us", "p99_us", "restarts")
    rows = [[str(row[name]) if name == "pid" else row[name] for name in names] for row in found.get("inspectors", ())]
    return _table([{"name": "inspector", "policy_verdicts": "by policy"}.get(name, name) for name in names], rows) if rows else []


def _reason_lines(found):
    rows = sorted(found["reasons"].items(), key=lambda item: -item[1]["packets"])
    return [f"{row['packets']:>14,}  {name}: {row['meaning']}" for name, row in rows] or ["no packet yet"]


def _inspection_line(totals):
    return (f"flows: {totals['flows_created']:,} begun, {totals['flows_expired']:,} over, gave way {totals['flows_evicted']:,}, "
            f"refused {totals['flows_rejected']:,}; streams followed {totals['sessions_opened']:,}, gave way "
            f"{totals['sessions_displaced']:,}, no room for {totals['sessions_rejected']:,}, packets not taken "
            f"{totals['streams_refused']:,}, judged alone {totals['streams_unfollowed']:,}")


def _fragment_line(totals):
    return (f"fragments: {totals['fragments_completed']:,} packets put together, {totals['fragments_expired']:,} never complete, "
            f"gave way {totals['fragments_displaced']:,}, refused {totals['fragments_rejected']:,}; "
            f"doubles {totals['fragments_duplicate']:,}, overlaps {totals['fragments_overlapping']:,}")


def _offload_line(offload):
    if not offload.get("on", bool(offload)):
        return "offload off: blocks are enforced in user space"
    if "declared" not in offload:
        return "offload begins"
    packets = offload["packets"]
    kinds = ", ".join(f"{name} {count:,}" for name, count in packets.items() if count)
    return (f"offload {offload['enforced']:,} of {offload['declared']:,} blocks enforced in the kernel, dropped there "
            f"{sum(packets.values()):,} packets" + (f" ({kinds})" if kinds else "")
            + (f"; no room for {offload['no_room']:,}" if offload.get("no_room") else "")
            + (f"; {offload['error']}" if offload["error"] else ""))


def _bypass_line(bypass, seen):
    known = "" if bypass["flows"] is None else f", {bypass['flows']:,} connections, the replies of {bypass['replies']:,} others"
    left = "" if bypass["packets"] is None else f"; accepted there {bypass['packets']:,} packets, {bypass['bytes']:,} bytes"
    mended = f"; keep-alive probes mended {bypass['mended']:,}" if bypass["mended"] else ""
    return f"bypass of {seen:,} packets seen {bypass['marks']:,} left the rest to the kernel{known}{left}{mended}"


def _table_lines(found):
    blocks, rates, eve = found["blocks"], found["rates"], found["events"]["eve"]
    lines = [f"blocks {blocks['used']:,} of {blocks['size']:,}, added {blocks['inserted']:,}, "
             f"gave way {blocks['displaced']:,}, refused {blocks['rejected']:,}",
             f"rates  {rates['used']:,} of {rates['size']:,}, gave way {rates['displaced']:,}, "
             f"refused {rates['rejected']:,}"]
    lines.append(_offload_line(found["offload"]))
    if found.get("bypass", {}).get("marks"):
        lines.append(_bypass_line(found["bypass"], found["totals"]["packets"]))
    if found["totals"]["flows_created"]:
        lines.append(_inspection_line(found["totals"]))
    if any(found["totals"][name] for name in found["totals"] if name.startswith("fragments_")):
        lines.append(_fragment_line(found["totals"]))
    if eve.get("file") or eve.get("written"):
        lines.append(f"events {found['events']['written']:,}, lines written {eve.get('written', 0):,} "
                     f"to {eve.get('file', '?')}"
                     + (f"; {eve['error']}" if eve.get("error") else ""))
    return lines
