"""New connections a second through the firewall: wrk with `Connection: close`, a request on each.

Otherwise as bench/http.py. Nine or ten packets a request, and for TigerFox a flow, a stream and a session to open and to end.

    sudo python -m bench.connections [--rounds 5] [--seconds 3] [--arms none,accept,tigerfox] [--json FILE]
"""

from bench import http

ARMS = ("none", "accept", "suricata", "tigerfox")


def main():
    http.run("connections", __doc__, ARMS, {}, close=True)


if __name__ == "__main__":
    main()
