"""Captures of HTTP through the parser, beside what Suricata 7 saw: streams, rules, and which contents must be found."""

import json
import re
from collections import defaultdict

import dpkt

LEGACY = {
    "http_uri": "http.uri", "http_raw_uri": "http.uri.raw", "http_method": "http.method", "http_header": "http.header",
    "http_raw_header": "http.header.raw", "http_cookie": "http.cookie", "http_user_agent": "http.user_agent",
    "http_host": "http.host", "http_raw_host": "http.host.raw", "http_stat_code": "http.stat_code",
    "http_stat_msg": "http.stat_msg", "http_client_body": "http.request_body", "http_server_body": "http.response_body",
}
STICKY = {
    "http.method", "http.uri", "http.uri.raw", "http.host", "http.host.raw", "http.user_agent", "http.cookie", "http.header",
    "http.header.raw", "http.header_names", "http.content_type", "http.content_len", "http.referer", "http.request_line",
    "http.response_line", "http.stat_code", "http.stat_msg", "http.protocol", "http.start", "http.request_body",
    "http.response_body", "file.data", "http.accept", "http.accept_lang", "http.accept_enc", "http.connection", "http.server",
    "http.location"}
RENAMED = {
    "file_data": "file.data", "http_header_names": "http.header_names", "http_content_type": "http.content_type",
    "http_content_len": "http.content_len", "http_referer": "http.referer", "http_request_line": "http.request_line",
    "http_response_line": "http.response_line", "http_protocol": "http.protocol", "http_start": "http.start",
    "http_accept": "http.accept", "http_accept_lang": "http.accept_lang", "http_accept_enc": "http.accept_enc",
    "http_connection": "http.connection"}
TRANSFORMS = {"to_lowercase", "to_uppercase", "strip_whitespace", "compress_whitespace", "url_decode", "header_lowercase",
              "dotprefix", "to_md5", "to_sha1", "to_sha256", "xor", "pcrexform", "strip_pseudo_headers"}
OPTION = re.compile(r'\s*([\w.-]+)\s*(?::\s*((?:"(?:[^"\\]|\\.)*"|\\.|[^;"\\])*))?;')


def content_bytes(text):
    """The bytes of a content pattern, and whether it is negated."""
    negated = text.startswith("!")
    text = text[text.index('"') + 1:text.rindex('"')]
    out = b""
    for index, part in enumerate(text.split("|")):
        if index % 2:
            out += bytes.fromhex(part.replace(" ", ""))
        else:
            out += re.sub(r"\\(.)", r"\1", part).encode("latin-1")
    return negated, out


def rule_contents(rule):
    """sid and [(buffer, negated, bytes, nocase, other modifiers)] of a rule; contents of other buffers are left out."""
    sid, buffer, found, plain = None, None, [], True
    for name, value in OPTION.findall(rule[rule.index("(") + 1:rule.rindex(")")] + ";"):
        if name == "sid":
            sid = int(value)
        elif RENAMED.get(name, name) in STICKY:
            buffer = RENAMED.get(name, name)
        elif name in ("pkt_data", "base64_data") or name in TRANSFORMS or "." in name and not value:
            buffer = None
        elif name in ("content", "uricontent"):
            negated, data = content_bytes(value)
            found.append(["http.uri" if name == "uricontent" else buffer, negated, data, False, False])
        elif name == "nocase" and found:
            found[-1][3] = True
        elif name in LEGACY and found:
            found[-1][0] = LEGACY[name]
        elif name in ("offset", "depth", "within", "distance", "startswith", "endswith", "bsize", "isdataat", "byte_test"):
            if found:
                found[-1][4] = True
        if name not in ("msg", "sid", "rev", "content", "nocase", "classtype", "fast_pattern", "flow", "gid", "reference", "metadata",
                        "priority") and name not in LEGACY and RENAMED.get(name, name) not in STICKY:
            plain = False
    return sid, [tuple(one) for one in found if one[0]], plain and all(one[0] for one in found)


def network(link, frame):
    """The IP packet in a frame, by the capture's link type (tcpdump.org/linktypes.html)."""
    if link == 1:
        return dpkt.ethernet.Ethernet(frame).data
    if link == 113:
        return dpkt.sll.SLL(frame).data
    if link in (12, 14, 101, 228):
        return dpkt.ip.IP(frame)
    frame = frame[4:]
    return dpkt.ip6.IP6(frame) if frame[0] >> 4 == 6 else dpkt.ip.IP(frame)


def packets(path):
    """(source, destination, tcp) of the TCP packets of a capture."""
    with open(path, "rb") as file:
        reader = dpkt.pcap.UniversalReader(file)
        link = reader.datalink()
        for _, frame in reader:
            try:
                packet = network(link, frame)
                if isinstance(packet.data, dpkt.tcp.TCP):
                    yield (packet.src, packet.data.sport), (packet.dst, packet.data.dport), packet.data
            except (dpkt.UnpackError, AttributeError):
                continue


def streams(path):
    """Flows of a capture in order: [(is it the server, bytes)], first copy wins, gaps end a direction."""
    flows = {}
    for source, target, tcp in packets(path):
        key = (source, target) if (source, target) in flows else (target, source)
        if key not in flows:
            key = (source, target) if not (tcp.flags & 2 and tcp.flags & 16) else (target, source)
            flows[key] = {"next": {}, "held": defaultdict(dict), "out": []}
        flow = flows[key]
        side = source == key[1]
        at = flow["next"]
        if tcp.flags & 2:
            at[side] = (tcp.seq + 1) & 0xffffffff
        if tcp.data:
            at.setdefault(side, tcp.seq)
            flow["held"][side].setdefault(tcp.seq + bool(tcp.flags & 2), bytes(tcp.data))
        while True:
            ready = None
            for seq, data in sorted(flow["held"][side].items()):
                behind = (at[side] - seq) & 0xffffffff
                if behind < 0x80000000:
                    ready = seq
                    break
            if ready is None:
                break
            data = flow["held"][side].pop(ready)[behind:]
            if data:
                flow["out"].append((side, data))
                at[side] = (at[side] + len(data)) & 0xffffffff
    return [flow["out"] for flow in flows.values()]


def seen(flow, parser_type, cut=None):
    """Every state that any buffer of a flow's transactions was in: {buffer: set of bytes}; the names of events."""
    from tigerfox.dataplane.app import httpparser

    first = {}
    for side, data in flow:
        first[side] = first.get(side, b"") + data
    if httpparser.probe(first.get(False, b""), True) == "yes" or httpparser.probe(first.get(True, b"")) == "yes":
        flow = [(not side, data) for side, data in flow]
    elif httpparser.probe(first.get(False, b"")) != "yes" and httpparser.probe(first.get(True, b""), True) != "yes":
        return {}, set()
    parser, found, events = parser_type(head_size=65535), defaultdict(set), set()
    ended = set()

    def look(side):
        for name, value in parser.buffers(side).items():
            found[name].add(value)
        events.update(parser.state(side)["events"])

    for side, data in flow:
        pieces = [data[at:at + cut] for at in range(0, len(data), cut)] if cut else [data]
        for piece in pieces:
            while piece and side not in ended:
                answer, taken = parser.feed(side, piece)
                piece = piece[taken:]
                look(side)
                if answer in ("tunnel", "broken"):
                    ended.add(side)
                    events.add(answer)
    for side in (False, True):
        parser.close(side)
        look(side)
    return found, events


def case_result(case, parser_type):
    """For each content of a case: (buffer, sid, must it be found, was it found, content), and the events."""
    expected = json.loads((case / "expected.json").read_text())
    fired = {int(str(sid).split(":")[0]) for sid in expected["sids"]}
    never = {int(str(sid).split(":")[0]) for sid in expected["never_fires"]}
    buffers, events = defaultdict(set), set()
    for flow in streams(case / "input.pcap"):
        found, seen_events = seen(flow, parser_type)
        events |= seen_events
        for name, values in found.items():
            buffers[name] |= values
    results = []
    for rule in (case / "test.rules").read_text(errors="replace").splitlines():
        if not rule.strip() or rule.startswith("#") or "(" not in rule:
            continue
        sid, contents, whole = rule_contents(rule)
        hits = []
        for buffer, negated, data, nocase, _ in contents:
            if nocase:
                hit = any(data.lower() in value.lower() for value in buffers[buffer])
            else:
                hit = any(data in value for value in buffers[buffer])
            if negated:
                continue
            hits.append(hit)
            if sid in fired:
                results.append((buffer, sid, True, hit, data))
        if sid in never and whole and contents and not any(one[1] or one[4] for one in contents):
            results.append((contents[0][0], sid, False, all(hits), contents[0][2]))
    return results, events, buffers
