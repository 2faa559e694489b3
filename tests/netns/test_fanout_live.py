"""Fan-out of a running instance: one client's connections on eight workers, and what doctor says of it."""

import os
import shutil
import socket

import pytest

from bench.fanout import measure
from bench.topology import SERVER4, SERVER6, Namespace, Topology
from tigerfox.control.netfilter import scripts_dir

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.mark.parametrize("family, address", [(socket.AF_INET, SERVER4), (socket.AF_INET6, SERVER6)])
def test_flow_is_even_where_balance_uses_one_queue_and_doctor_says_so(family, address):
    with Topology("tffl") as topology:
        _, skew, finding = measure(topology, "balance", family, address, 200)
        assert skew == 8.0 and finding["state"] == "warn" and "--fanout flow" in finding["mend"]
        _, skew, finding = measure(topology, "flow", family, address, 200)
        assert skew <= 1.3 and finding["state"] == "ok"


@pytest.mark.parametrize("tool", ["iptables-restore", "ip6tables-restore"])
def test_flow_goes_by_a_hash_where_connections_cannot_be_dealt_out(tool, tmp_path):
    """A front end that refuses CONNMARK, as it does on a kernel without it."""
    wrapper = tmp_path / tool
    wrapper.write_text(f"#!/bin/sh\nrules=$(cat)\ncase $rules in *CONNMARK*) echo refused >&2; exit 1 ;; esac\n"
                       f"printf '%s\\n' \"$rules\" | exec {shutil.which(tool)} \"$@\"\n", encoding="utf-8")
    wrapper.chmod(0o755)
    namespace = Namespace(f"tffl{os.getpid()}h")
    try:
        up = ["env", f"PATH={tmp_path}:{os.environ['PATH']}", "sh", scripts_dir() / "up.sh", "--queues", "0:3", "--fanout", "flow"]
        done = namespace.run(*up)
        assert "by a hash" in done.stderr
        for family in ("iptables-save", "ip6tables-save"):
            saved = namespace.run(family, "-t", "mangle").stdout
            assert "HMARK" in saved and "CONNMARK" not in saved
        assert namespace.run(*up, "--mark-mask", "0xff00", check=False).returncode == 1
    finally:
        namespace.remove()
