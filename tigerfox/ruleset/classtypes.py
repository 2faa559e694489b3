"""Class types: name, category shown in alerts, default priority (1 is the highest).

Source: Suricata 7's classification.config, to which the Emerging Threats and Snort rules refer.
"""

from typing import NamedTuple


class ClassType(NamedTuple):
    """One row of the table."""

    category: str
    priority: int


DEFAULT_PRIORITY = 3

CLASSTYPES = {
    "not-suspicious": ClassType("Not Suspicious Traffic", 3),
    "unknown": ClassType("Unknown Traffic", 3),
    "bad-unknown": ClassType("Potentially Bad Traffic", 2),
    "attempted-recon": ClassType("Attempted Information Leak", 2),
    "successful-recon-limited": ClassType("Information Leak", 2),
    "successful-recon-largescale": ClassType("Large Scale Information Leak", 2),
    "attempted-dos": ClassType("Attempted Denial of Service", 2),
    "successful-dos": ClassType("Denial of Service", 2),
    "attempted-user": ClassType("Attempted User Privilege Gain", 1),
    "unsuccessful-user": ClassType("Unsuccessful User Privilege Gain", 1),
    "successful-user": ClassType("Successful User Privilege Gain", 1),
    "attempted-admin": ClassType("Attempted Administrator Privilege Gain", 1),
    "successful-admin": ClassType("Successful Administrator Privilege Gain", 1),
    "rpc-portmap-decode": ClassType("Decode of an RPC Query", 2),
    "shellcode-detect": ClassType("Executable code was detected", 1),
    "string-detect": ClassType("A suspicious string was detected", 3),
    "suspicious-filename-detect": ClassType("A suspicious filename was detected", 2),
    "suspicious-login": ClassType("An attempted login using a suspicious username was detected", 2),
    "system-call-detect": ClassType("A system call was detected", 2),
    "trojan-activity": ClassType("A Network Trojan was detected", 1),
    "unusual-client-port-connection": ClassType("A client was using an unusual port", 2),
    "network-scan": ClassType("Detection of a Network Scan", 3),
    "denial-of-service": ClassType("Detection of a Denial of Service Attack", 2),
    "non-standard-protocol": ClassType("Detection of a non-standard protocol or event", 2),
    "protocol-command-decode": ClassType("Generic Protocol Command Decode", 3),
    "web-application-activity": ClassType("access to a potentially vulnerable web application", 2),
    "web-application-attack": ClassType("Web Application Attack", 1),
    "misc-activity": ClassType("Misc activity", 3),
    "misc-attack": ClassType("Misc Attack", 2),
    "policy-violation": ClassType("Potential Corporate Privacy Violation", 1),
    "default-login-attempt": ClassType("Attempt to login by a default username and password", 2),
    "targeted-activity": ClassType("Targeted Malicious Activity was Detected", 1),
    "exploit-kit": ClassType("Exploit Kit Activity Detected", 1),
    "external-ip-check": ClassType("Device Retrieving External IP Address Detected", 2),
    "domain-c2": ClassType("Domain Observed Used for C2 Detected", 1),
    "pup-activity": ClassType("Possibly Unwanted Program Detected", 2),
    "credential-theft": ClassType("Successful Credential Theft Detected", 1),
    "social-engineering": ClassType("Possible Social Engineering Attempted", 2),
    "coin-mining": ClassType("Crypto Currency Mining Activity Detected", 2),
    "command-and-control": ClassType("Malware Command and Control Activity Detected", 1),
}
