"""The keyword table: one row a keyword. The parser, `tigerfox rules keywords` and the documentation all read it.

To add one: write its parser in conditions.py (it tests a packet field) or meta.py (it does not), add the row, and add
its cases to tests/ruleset/test_keywords.py. A keyword that stands in NOT_YET is known to Suricata 7 and refused by
name.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tigerfox.ruleset import conditions as test
from tigerfox.ruleset import meta
from tigerfox.ruleset.conditions import U8, U16, U32

GUIDE = "https://docs.suricata.io/en/suricata-7.0.10/rules/"
OWN = "TigerFox's own"


@dataclass(frozen=True, slots=True)
class Keyword:
    """One row. ``field``: the packet field that is tested, None where none is; ``cost``: 1 is the cheapest test, 0 is
    none.

    ``protocols``: the protocols whose packets can match, empty for all. ``quotes``: "no", "may" or "must". ``value``:
    whether one must stand behind the colon. ``several``: may stand more than once. ``ipv4``: other packets never match,
    as in Suricata.
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


TCP = ("tcp",)
ICMP = ("icmp", "icmpv4", "icmpv6")
META = "meta.html#"
HEADER = "header-keywords.html#"
RATES = "thresholding.html#"

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
    Keyword("threshold", meta.threshold, "How often the rule speaks: limit, threshold, both",
            "threshold:type limit, track by_src, count 1, seconds 60;", RATES + "threshold"),
    Keyword("detection_filter", meta.detection_filter, "Fire from the match after the Nth on",
            "detection_filter:track by_src, count 10, seconds 60;", RATES + "detection-filter"),
    Keyword("block", meta.block, "What a drop puts into the block table, and for how long",
            "block:source, 10m;", OWN),
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
            "dsize:10<>20;", "payload-keywords.html#dsize", "dsize", 1, several=True),
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
    Keyword("sameip", test.same_ip, "Source and destination address are equal",
            "sameip;", HEADER + "sameip", "same_ip", 2, value=False, several=True),
)

KEYWORDS = {name: row for row in TABLE for name in (row.name, *row.aliases)}

NOT_YET = frozenset(
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
    lines = [f"{'keyword':<20}{'field':<12}{'cost':>4}  {'what it says':<58}example"]
    for row in TABLE:
        name = ", ".join((row.name, *row.aliases))
        lines.append(f"{name:<20}{row.field or '-':<12}{row.cost or '-':>4}  {row.description:<58}{row.example}")
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
