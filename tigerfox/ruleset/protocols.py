"""Protocols: those that a rule may name, those that it may not name yet, and the IP protocol numbers by name."""

RULE_PROTOCOLS = {
    "ip": "ip", "ip4": "ipv4", "ipv4": "ipv4", "ip6": "ipv6", "ipv6": "ipv6", "tcp": "tcp", "tcp-pkt": "tcp",
    "udp": "udp", "icmp": "icmp", "icmp4": "icmpv4", "icmpv4": "icmpv4", "icmp6": "icmpv6", "icmpv6": "icmpv6",
    "sctp": "sctp", "tcp-stream": "tcp", "http": "tcp", "http1": "tcp", "tls": "tcp", "ssh": "tcp", "dns": "ip",
}
APPS = {"http": "http", "http1": "http", "tls": "tls", "ssh": "ssh", "dns": "dns"}     # by the name in a rule
PAYLOADS = {"tcp-pkt": "packet", "tcp-stream": "stream"}

NOT_YET = frozenset(
    """pkthdr http2 ssl smtp ftp ftp-data imap pop3 smb dcerpc nfs ntp tftp ike ikev2
    krb5 dhcp snmp sip rfb mqtt pgsql telnet rdp modbus enip dnp3 quic bittorrent-dht template websocket ldap doh2 sdp
    esp arp""".split()
)

# Source: IANA "Assigned Internet Protocol Numbers". Lower case and the registry's own spelling are both known.
_NUMBERS = {
    "IP": 0, "HOPOPT": 0, "ICMP": 1, "IGMP": 2, "GGP": 3, "IP-ENCAP": 4, "ST": 5, "TCP": 6, "CBT": 7, "EGP": 8,
    "IGP": 9, "BBN-RCC-MON": 10, "NVP-II": 11, "PUP": 12, "ARGUS": 13, "EMCON": 14, "XNET": 15, "CHAOS": 16,
    "UDP": 17, "MUX": 18, "DCN-MEAS": 19, "HMP": 20, "PRM": 21, "XNS-IDP": 22, "TRUNK-1": 23, "TRUNK-2": 24,
    "LEAF-1": 25, "LEAF-2": 26, "RDP": 27, "IRTP": 28, "ISO-TP4": 29, "NETBLT": 30, "MFE-NSP": 31, "MERIT-INP": 32,
    "DCCP": 33, "3PC": 34, "IDPR": 35, "XTP": 36, "DDP": 37, "IDPR-CMTP": 38, "TP++": 39, "IL": 40, "IPv6": 41,
    "SDRP": 42, "IPv6-Route": 43, "IPv6-Frag": 44, "IDRP": 45, "RSVP": 46, "GRE": 47, "DSR": 48, "BNA": 49, "ESP": 50,
    "IPSEC-ESP": 50, "AH": 51, "IPSEC-AH": 51, "I-NLSP": 52, "SWIPE": 53, "NARP": 54, "MOBILE": 55, "TLSP": 56,
    "SKIP": 57, "IPv6-ICMP": 58, "ICMPV6": 58, "IPv6-NoNxt": 59, "IPv6-Opts": 60, "CFTP": 62, "SAT-EXPAK": 64,
    "KRYPTOLAN": 65, "RVD": 66, "IPPC": 67, "SAT-MON": 69, "VISA": 70, "IPCV": 71, "CPNX": 72, "RSPF": 73, "CPHB": 73,
    "WSN": 74, "PVP": 75, "BR-SAT-MON": 76, "SUN-ND": 77, "WB-MON": 78, "WB-EXPAK": 79, "ISO-IP": 80, "VMTP": 81,
    "SECURE-VMTP": 82, "VINES": 83, "TTP": 84, "NSFNET-IGP": 85, "DGP": 86, "TCF": 87, "EIGRP": 88, "OSPFIGP": 89,
    "OSPF": 89, "SPRITE-RPC": 90, "LARP": 91, "MTP": 92, "AX.25": 93, "IPIP": 94, "MICP": 95, "SCC-SP": 96,
    "ETHERIP": 97, "ENCAP": 98, "GMTP": 100, "IFMP": 101, "PNNI": 102, "PIM": 103, "ARIS": 104, "SCPS": 105,
    "QNX": 106, "A/N": 107, "IPComp": 108, "SNP": 109, "COMPAQ-PEER": 110, "IPX-IN-IP": 111, "VRRP": 112, "CARP": 112,
    "PGM": 113, "L2TP": 115, "DDX": 116, "IATP": 117, "STP": 118, "SRP": 119, "UTI": 120, "SMP": 121, "SM": 122,
    "PTP": 123, "ISIS": 124, "FIRE": 125, "CRTP": 126, "CRUDP": 127, "SSCOPMCE": 128, "IPLT": 129, "SPS": 130,
    "PIPE": 131, "SCTP": 132, "FC": 133, "RSVP-E2E-IGNORE": 134, "UDPLite": 136, "MPLS-IN-IP": 137, "MANET": 138,
    "HIP": 139, "SHIM6": 140, "WESP": 141, "ROHC": 142, "ETHERNET": 143, "AGGFRAG": 144, "NSH": 145,
}
NUMBERS = _NUMBERS | {name.lower(): number for name, number in _NUMBERS.items()}
