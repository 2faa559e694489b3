"""What `tigerfox explain` found, as one JSON object or as tables."""

import io
import json
import shutil

_LAYER = ("src", "sport", "dst", "dport", "proto", "ttl", "ip_len", "payload_len", "fault")
_FLAGS = ("bare", "fragment", "reassembled", "tunnel", "streamed")


def as_json_text(found):
    """Return the object as JSON, on one line."""
    return json.dumps(found, ensure_ascii=False) + "\n"


def as_text(found):
    """Return the object as tables."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_width(), color_system=None)
    show = _show_packet if "units" in found else _show_search if "matched" in found else _show_rule
    pieces = [piece + "\n" if isinstance(piece, str) else "".join(one.text for one in console.render(piece))
              for piece in show(found)]
    return "\n".join(line.rstrip() for line in "".join(pieces).split("\n"))


def _width():
    return max(100, shutil.get_terminal_size((132, 24)).columns)


def _table(title, columns, rows):
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, no_wrap=True), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", header_style="none")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def _show_packet(found):
    for place, layer in enumerate(found["layers"]):
        flags = ", ".join(name for name in _FLAGS if layer[name])
        yield _table(f"packet {found['packet']}{', inside its tunnel' if place else ''}", (*_LAYER, "is"),
                     [[*(layer[name] for name in _LAYER), flags]])
        if layer["payload"]:
            yield f"  payload: {layer['payload']}"
    yield from _show_flow(found["units"])
    buffers = [(one["buffer"], one["length"], one["bytes"]) for unit in found["units"] for one in unit["buffers"]]
    if buffers:
        yield ""
        yield _table("buffers", ("buffer", "bytes", "content"), buffers)
    yield ""
    yield _table("rules that were looked at", ("sid", "action", "in", "candidate by", "result"),
                 [(row["sid"], row["action"], row["in"], row["candidate"], _result(row)) for row in found["rules"]])
    yield ""
    for layer in found["layers"]:
        yield _decision(layer["decision"])


def _show_flow(units):
    flow = next((unit["flow"] for unit in units if unit["flow"]), None)
    if flow:
        yield ""
        yield _table("flow", ("state", "established", "this packet goes", "application", "packets", "bytes"),
                     [(flow["state"], "yes" if flow["established"] else "no", flow["direction"], flow["application"],
                       "{to_server} / {to_client}".format(**flow["packets"]), "{to_server} / {to_client}".format(**flow["bytes"]))])
    stream = next((unit["stream"] for unit in units if unit["stream"]), None)
    if stream:
        yield f"stream: {stream['in_order']} bytes in order, {stream['new']} of them new; its end: {stream['end']}"


def _result(row):
    if row["failed"]:
        return f"fails at {row['failed']['stage']}: {row['failed']['says']} ({row['failed']['because']})"
    return row["result"] + (f", {row['note']}" if row["note"] else "")


def _decision(decision):
    text = f"decision: {decision['verdict']}, {decision['reason']}: {decision['explanation']}"
    if decision["block"]:
        cause = f"sid {decision['sid']}" if decision["sid"] else "hand"
        return f"{text}; the entry ({decision['block']}) was made by {cause}"
    text += f"; by sid {decision['sid']}" if decision["sid"] else ""
    return text + (f"; policy {decision['policy']}" if decision["policy"] else "")


def _show_search(found):
    rule = found["rule"]
    yield f"sid {found['sid']} \"{rule['msg']}\" ({rule['place']}) over {found['packets']} packets"
    if not found["matched"]:
        yield "never matched"
    else:
        yield f"matched in {found['matched']}: {_numbers(found['matched_packets'], found['matched'])}"
        yield f"reported in {found['reported']}: {_numbers(found['reported_packets'], found['reported'])}"
    if found["not_asked"]:
        yield f"not asked in {found['not_asked']} packets that were stopped before rules are asked, or have no IP"
    if found["nearest"]:
        near = found["nearest"]
        yield f"nearest: packet {near['packet']}, in its {near['in']}: {_result(near)}"


def _numbers(listed, count):
    return ", ".join(map(str, listed)) + (", …" if count > len(listed) else "")


def _show_rule(found):
    rule = found["rule"]
    yield f"sid {rule['sid']} \"{rule['msg']}\", {rule['action']} ({rule['place']}), among {found['rules']} compiled rules"
    for facts in found["compiled"]:
        yield ""
        yield _table("headers", ("field", "classes"), [(name, "any" if n is None else f"{n} of {facts['of'][_kind(name)]}")
                                                       for name, n in facts["classes"].items()])
        filed = facts["filed"]
        if filed:
            yield f"filed in the header index by {', '.join(filed['fields']) or 'its protocol alone'}: {filed['keys']} keys"
        yield f"candidate by: {facts['named_by']}"
        if facts["scanned"]:
            yield f"  the scan looks for {facts['view_literals']} literals there; this one names {facts['sharing']} rules"
        if facts["inspection"]:
            yield f"unit: {facts['unit']}, side: {facts['side']}, payload: {facts['payload']}, from progress: {facts['progress']}"
        yield f"cost: {facts['cost']}"
    asked = [*found["conditions"], *([found["flow"]] if found["flow"] else []), *found["flowbits"], *found["stream_sizes"]]
    rows = [("", text) for text in asked]
    rows += [(" ".join([part["buffer"], *part["transforms"]]), text) for part in found["parts"] for text in part["tests"]]
    if rows:
        yield ""
        yield _table("conditions", ("buffer", "asked in this order"), rows)


def _kind(name):
    return "ports" if name.endswith("port") else "addresses"
