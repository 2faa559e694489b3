"""The keyword table: one row a keyword. The parser, `tigerfox rules keywords` and the documentation all read it.

To add one: write its parser in the module of its family (conditions.py: a packet field; contents.py, expressions.py,
bytetests.py: the payload and buffers; flows.py; meta.py), add the row, and add its cases to tests/ruleset, what it refuses to
test_refusals.py. The rows of sticky buffers are made from buffers.py. A keyword that stands in NOT_YET is known to Suricata 7 and
refused by name.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tigerfox.ruleset import bytetests, contents, expressions, flows, meta, sticky
from tigerfox.ruleset import conditions as test
from tigerfox.ruleset.conditions import U8, U16, U32

GUIDE = "https://docs.suricata.io/en/suricata-7.0.10/rules/"
OWN = "TigerFox's own"


@dataclass(frozen=True, slots=True)
class Keyword:
    """One row. ``field``: the packet field that is tested, None where none is; ``cost``: 1 is the cheapest test, 0 is
    none.

    ``protocols``: the protocols whose packets can match, empty for all. ``quotes``: "no", "may" or "must". ``value``:
    whether one must stand behind the colon. ``several``: may stand more than once. ``ipv4``: other packets never match,
    as in Suricata. ``negatable``: a ! may stand before the quotes; ``optional``: the value may be missing. ``buffer``: the one
    that it puts tests into.
    """

    name: str
    parse: Callable
    description: str
    example: str
    reference: str
    field: str | None = None
    cost: int = 0
    aliases: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    quotes: str = "no"
    value: bool = True
    several: bool = False
    ipv4: bool = False
    negatable: bool = False
    optional: bool = False
    buffer: str | None = None


TCP = ("tcp",)
ICMP = ("icmp", "icmpv4", "icmpv6")
META = "meta.html#"
HEADER = "header-keywords.html#"
RATES = "thresholding.html#"
PAYLOAD = "payload-keywords.html#"
FLOW = "flow-keywords.html#"
TLS = "tls-keywords.html#"

TABLE = (
    Keyword("msg", meta.msg, "Text of the alert",
            'msg:"SSH from outside";', META + "msg-message", quotes="must"),
    Keyword("sid", meta.sid, "Number of the rule; must be there",
            "sid:1000001;", META + "sid-signature-id", quotes="may"),
    Keyword("rev", meta.rev, "Revision of the rule; a higher one replaces a lower",
            "rev:2;", META + "rev-revision", quotes="may"),
    Keyword("gid", meta.gid, "Group of rules that the sid counts in",
            "gid:1;", META + "gid-group-id", quotes="may"),
    Keyword("classtype", meta.classtype, "Class of the alert: category and default priority",
            "classtype:attempted-recon;", META + "classtype", several=True),
    Keyword("priority", meta.priority, "1 (highest) to 255, over the class type's",
            "priority:1;", META + "priority", quotes="may", several=True),
    Keyword("reference", meta.reference, "Where to read more",
            "reference:cve,2024-1234;", META + "reference", quotes="may", several=True),
    Keyword("metadata", meta.metadata, "Further facts as pairs",
            "metadata:created_at 2025_01_01;", META + "metadata", quotes="may", several=True),
    Keyword("target", meta.target, "Which end is attacked",
            "target:dest_ip;", META + "target", several=True),
    Keyword("noalert", meta.noalert, "Act, but write no alert",
            "noalert;", "flow-keywords.html#flowbits", value=False),
    Keyword("alert", meta.alert, "Write an alert: in a pass rule, or behind a noalert",
            "alert;", META + "alert", value=False),
    Keyword("threshold", meta.threshold, "How often the rule speaks: limit, threshold, both",
            "threshold:type limit, track by_src, count 1, seconds 60;", RATES + "threshold"),
    Keyword("detection_filter", meta.detection_filter, "Fire from the match after the Nth on",
            "detection_filter:track by_src, count 10, seconds 60;", RATES + "detection-filter"),
    Keyword("block", meta.block, "What a drop puts into the block table, and for how long",
            "block:source, 10m;", OWN),
    Keyword("inspect", meta.inspect, "The Python inspector that is asked about the packet, or its whole connection",
            "inspect:dns-tunnel;", OWN),
    Keyword("ip_proto", test.ip_proto, "IP protocol by number or name, ! < >",
            "ip_proto:!tcp;", HEADER + "ip-proto", "ip_proto", 1, several=True),
    Keyword("flags", test.tcp_flags, "TCP flags, + * ! and ignored ones",
            "flags:S,12;", HEADER + "tcp-keywords", "tcp_flags", 1, aliases=("tcp.flags",), protocols=TCP,
            several=True),
    Keyword("itype", test.compare("icmp_type", U8), "ICMP or ICMPv6 type",
            "itype:8;", HEADER + "itype", "icmp_type", 1, protocols=ICMP, several=True),
    Keyword("icode", test.compare("icmp_code", U8), "ICMP or ICMPv6 code",
            "icode:>0;", HEADER + "icode", "icmp_code", 1, protocols=ICMP, several=True),
    Keyword("dsize", test.compare("dsize", U16), "Bytes of payload behind the transport header",
            "dsize:10<>20;", "payload-keywords.html#dsize", "dsize", 1),
    Keyword("ttl", test.compare("ttl", U8), "IPv4 time to live, IPv6 hop limit",
            "ttl:<5;", HEADER + "ttl", "ttl", 1, several=True),
    Keyword("tos", test.tos, "IPv4 type of service",
            "tos:!0;", HEADER + "tos", "tos", 1, quotes="may", several=True, ipv4=True),
    Keyword("id", test.exact("ip_id", U16), "IPv4 identification",
            "id:1;", HEADER + "id", "ip_id", 1, quotes="may", several=True, ipv4=True),
    Keyword("fragbits", test.frag_bits, "IPv4 fragment bits M D R, + * !",
            "fragbits:M;", HEADER + "fragbits-ip-fragmentation", "frag_bits", 1, several=True, ipv4=True),
    Keyword("fragoffset", test.frag_offset, "Fragment offset in units of 8 bytes",
            "fragoffset:>0;", HEADER + "fragoffset", "frag_off", 1, several=True),
    Keyword("ipopts", test.ip_options, "IPv4 option that is there",
            "ipopts:lsrr;", HEADER + "ipopts", "ip_options", 1, several=True, ipv4=True),
    Keyword("window", test.exact("tcp_window", U16, True), "TCP window as in the header",
            "window:55808;", HEADER + "window", "tcp_window", 1, aliases=("tcp.window",), protocols=TCP, several=True),
    Keyword("seq", test.exact("tcp_seq", U32), "TCP sequence number",
            "seq:0;", HEADER + "seq", "tcp_seq", 1, aliases=("tcp.seq",), protocols=TCP, several=True),
    Keyword("ack", test.exact("tcp_ack", U32), "TCP acknowledgement number",
            "ack:0;", HEADER + "ack", "tcp_ack", 1, aliases=("tcp.ack",), protocols=TCP, several=True),
    Keyword("icmp_id", test.exact("icmp_id", U16), "Identifier of an ICMP echo",
            "icmp_id:0;", HEADER + "icmp-id", "icmp_id", 2, protocols=ICMP, quotes="may", several=True),
    Keyword("icmp_seq", test.exact("icmp_seq", U16), "Sequence number of an ICMP echo",
            "icmp_seq:0;", HEADER + "icmp-seq", "icmp_seq", 2, protocols=ICMP, quotes="may", several=True),
    Keyword("icmpv6.mtu", test.compare("icmp_mtu", U32), "MTU that an ICMPv6 Packet Too Big tells",
            "icmpv6.mtu:<1280;", HEADER + "icmpv6-mtu", "icmp_mtu", 2, protocols=ICMP, several=True),
    Keyword("sameip", test.same_ip, "Source and destination address are equal",
            "sameip;", HEADER + "sameip", "same_ip", 2, value=False, several=True),
    Keyword("content", contents.content, "Bytes that are there, or with ! are not",
            'content:"GET |2f|";', PAYLOAD + "content", quotes="must", several=True, negatable=True),
    Keyword("nocase", contents.nocase, "The content before it, in upper or lower case",
            'content:"admin"; nocase;', PAYLOAD + "nocase", value=False, several=True),
    Keyword("offset", contents.offset, "First byte where the content may begin",
            'content:"ab"; offset:4;', PAYLOAD + "offset", several=True),
    Keyword("depth", contents.depth, "Bytes from the offset on that the content lies in",
            'content:"ab"; depth:10;', PAYLOAD + "depth", several=True),
    Keyword("distance", contents.distance, "Bytes between the match before and the content, at least",
            'content:"ab"; content:"cd"; distance:1;', PAYLOAD + "distance", several=True),
    Keyword("within", contents.within, "Bytes behind the match before that the content lies in",
            'content:"ab"; content:"cd"; within:10;', PAYLOAD + "within", several=True),
    Keyword("startswith", contents.startswith, "The content is the beginning",
            'content:"ab"; startswith;', PAYLOAD + "startswith", value=False, several=True),
    Keyword("endswith", contents.endswith, "The content is the end",
            'content:"ab"; endswith;', PAYLOAD + "endswith", value=False, several=True),
    Keyword("fast_pattern", contents.fast_pattern, "What the scan looks for: the content, or a part of it",
            'content:"abcdef"; fast_pattern:0,4;', "prefilter-keywords.html#fast-pattern", several=True, optional=True),
    Keyword("rawbytes", contents.rawbytes, "Nothing: kept for old rules",
            'content:"ab"; rawbytes;', PAYLOAD + "rawbytes", value=False, several=True),
    Keyword("uricontent", contents.uricontent, "Old name of content with http_uri",
            'uricontent:"/admin";', "http-keywords.html#http-uri", quotes="must", several=True, negatable=True, buffer="http.uri"),
    Keyword("prefilter", contents.prefilter, "A hint: look for the test before it first",
            'content:"ab"; prefilter;', "prefilter-keywords.html#prefilter", value=False),
    Keyword("pcre", expressions.pcre, "A regular expression of PCRE2 that matches, or with ! does not",
            'pcre:"/id=[0-9]+/i";', PAYLOAD + "pcre-perl-compatible-regular-expressions", quotes="may", several=True,
            negatable=True),
    Keyword("isdataat", bytetests.isdataat, "There is a byte at this place, or with ! is not",
            'content:"ab"; isdataat:!10,relative;', PAYLOAD + "isdataat", several=True),
    Keyword("bsize", bytetests.bsize, "Size of the sticky buffer",
            'http.uri; bsize:<20;', PAYLOAD + "bsize", several=True),
    Keyword("urilen", bytetests.urilen, "Size of the URI, with raw as it was sent",
            "urilen:>100,raw;", "http-keywords.html#urilen", several=True, buffer="http.uri"),
    Keyword("byte_test", bytetests.byte_test, "Compare a number in the buffer",
            "byte_test:2,>,100,0;", PAYLOAD + "byte-test", several=True),
    Keyword("byte_jump", bytetests.byte_jump, "Go on behind as many bytes as a number in the buffer says",
            "byte_jump:2,0;", PAYLOAD + "byte-jump", several=True),
    Keyword("byte_extract", bytetests.byte_extract, "Keep a number of the buffer as a variable",
            'byte_extract:2,0,length; content:"ab"; depth:length;', PAYLOAD + "byte-extract", several=True),
    Keyword("byte_math", bytetests.byte_math, "Reckon with a number of the buffer; keep the result as a variable",
            "byte_math:bytes 2, offset 0, oper +, rvalue 4, result sum;", PAYLOAD + "byte-math", several=True),
    Keyword("base64_decode", bytetests.base64_decode, "Decode Base64 from here on, for base64_data",
            'content:"k="; base64_decode:bytes 20, relative; base64_data; content:"cmd";', "base64-keywords.html#base64-decode",
            several=True, optional=True),
    Keyword("base64_data", sticky.decoded, "What base64_decode has made",
            'base64_decode; base64_data; content:"cmd";', "base64-keywords.html#base64-data", value=False, several=True),
    Keyword("flow", flows.flow, "Direction and state of the flow",
            "flow:established,to_server;", FLOW + "flow"),
    Keyword("flowbits", flows.flowbits, "Marks of the flow: set, unset, toggle, isset, isnotset",
            "flowbits:isset,login;", FLOW + "flowbits", several=True),
    Keyword("stream_size", flows.stream_size, "Bytes of the stream so far, by side",
            "stream_size:server,<,1000;", FLOW + "stream-size", several=True, protocols=TCP),
    Keyword("app-layer-protocol", flows.app_layer_protocol, "The application protocol that was recognised",
            "app-layer-protocol:!tls;", "app-layer.html#app-layer-protocol", several=True),
    Keyword("tls.version", sticky.tls_version, "Version of TLS, of the hello that goes the rule's way",
            "tls.version:1.0;", TLS + "tls-version", quotes="may", several=True, negatable=True, buffer="tls.version"),
    Keyword("tls.fingerprint", sticky.whole_value("tls.cert_fingerprint", True), "SHA-1 of the certificate, as 0a:1b",
            f'tls.fingerprint:"{sticky.CONTENTS["tls.cert_fingerprint"]}";', TLS + "tls-fingerprint", quotes="must", several=True,
            negatable=True, buffer="tls.cert_fingerprint"),
    Keyword("tls.subject", sticky.whole_value("tls.cert_subject", False), "Text in the subject of the certificate",
            'tls.subject:"CN=example.org";', TLS + "tls-subject", quotes="must", several=True, negatable=True,
            buffer="tls.cert_subject"),
    Keyword("tls.issuerdn", sticky.whole_value("tls.cert_issuer", False), "Text in the issuer of the certificate",
            'tls.issuerdn:"CN=Example CA";', TLS + "tls-issuerdn", quotes="must", several=True, negatable=True,
            buffer="tls.cert_issuer"),
    *sticky.table(Keyword),
)

TESTS = frozenset(row.name for row in TABLE if row.field) | frozenset(
    """content uricontent pcre isdataat bsize urilen byte_test byte_jump byte_extract byte_math flowbits stream_size
    app-layer-protocol base64_decode""".split()
)
KEYWORDS = {name: row for row in TABLE for name in (row.name, *row.aliases)}

_SURICATA = frozenset(
    """alert content uricontent nocase depth offset distance within startswith endswith fast_pattern rawbytes replace
    prefilter pcre pcrexform isdataat absent bsize pkt_data file_data file.data byte_test byte_jump byte_extract
    byte_math base64_decode base64_data entropy dataset datarep lua luajit flow flowbits flowint flowvar pktvar hostbits
    xbits tag stream_size app-layer-protocol app-layer-event app-layer-state decode-event stream-event engine-event
    l3_proto geoip iprep asn1 rpc cvs ftpbounce urilen bypass filestore filename fileext filemagic filemd5 filesha1
    filesha256 filesize file.name file.magic requires config frame require ttl_decrement icmpv6.mtu icmpv6.hdr
    icmpv4.hdr ipv4.hdr ipv6.hdr tcp.hdr tcp.mss tcp.wscale udp.hdr ip.src ip.dst to_lowercase to_uppercase to_md5
    to_sha1 to_sha256 dotprefix strip_whitespace compress_whitespace strip_pseudo_headers header_lowercase url_decode
    xor gunzip zlib_deflate from_base64 domain tld luaxform ssl_version ssl_state dce_iface dce_opnum dce_stub_data
    dnp3_data dnp3_func dnp3_ind dnp3_obj cip_service enip_command modbus nfs_procedure nfs_version snmp_version
    snmp_community krb5_msg_type krb5_err_code krb5_cname krb5_sname ftpdata_command sip.method http_method http_uri
    http_host http_user_agent http_header http_cookie http_client_body http_stat_code http_raw_uri http_raw_host
    http_raw_header http_server_body http_stat_msg http_accept http_accept_lang http_accept_enc http_connection
    http_content_len http_content_type http_protocol http_start http_header_names http_request_line http_response_line
    http_referer dns_query tls_sni tls_cert_subject tls_cert_issuer tls_cert_serial tls_cert_fingerprint
    tls_cert_notbefore tls_cert_notafter tls_cert_expired tls_cert_valid ja3_hash ja3_string ssh_proto ssh_software
    ssh.hassh ike.init_spi bittorrent_dht.query_type ipv4-csum tcpv4-csum tcpv6-csum udpv4-csum udpv6-csum icmpv4-csum
    icmpv6-csum""".split()
)
NOT_YET = _SURICATA - set(KEYWORDS)
_FAMILIES = frozenset(
    """http http1 http2 dns mdns tls ja3 ja3s ja4 ssh ssl smtp smb dcerpc dce_iface ftp ftpdata nfs tftp ike krb5 dhcp
    snmp sip sdp rfb mqtt pgsql telnet rdp modbus enip dnp3 quic bittorrent_dht websocket ldap email file flow pop3 imap
    ntp vlan ether decoder rpc template filemagic datarep""".split()
)


def is_not_yet(name):
    """Whether Suricata knows the keyword (by its name or by its family, as in `http.uri`) and TigerFox does not yet."""
    return name in NOT_YET or "." in name and name.partition(".")[0] in _FAMILIES


def render_keywords(as_json=False):
    """Return the table as text, or as JSON."""
    if as_json:
        return json.dumps(keyword_rows(), indent=1)
    rows = [("keyword", "field", "cost", "what it says", "example")]
    rows += [(", ".join((row.name, *row.aliases)), row.field or "-", str(row.cost or "-"), row.description, row.example)
             for row in TABLE]
    names, says = (max(len(row[i]) for row in rows) + 2 for i in (0, 3))
    lines = [f"{name:<{names}}{field:<12}{cost:>4}  {text:<{says}}{example}" for name, field, cost, text, example in rows]
    return "\n".join(lines)


def keyword_rows():
    """Return the table as dictionaries, for printing."""
    rows = []
    for row in TABLE:
        reference = row.reference if row.reference == OWN else GUIDE + row.reference
        rows.append({"name": row.name, "aliases": list(row.aliases), "field": row.field, "cost": row.cost,
                     "protocols": list(row.protocols), "ipv4_only": row.ipv4, "description": row.description,
                     "example": row.example, "reference": reference})
    return rows
