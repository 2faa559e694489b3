"""The engines are compiled once, where they are older than their sources."""

from types import SimpleNamespace

import pytest

from bench.architectures import build
from bench.packets import RULES


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """The compiled rig: memory, designs, the traffic of a generated capture, the bench's 24 rules, the sequential verdicts."""
    build.build()
    from bench.architectures import designs, memory, traffic
    from bench.architectures.port import Traffic

    path = tmp_path_factory.mktemp("traffic") / "mixed.pcap"
    traffic.write_capture(path)
    found = SimpleNamespace(memory=memory, designs=designs, traffic=Traffic(path), rules=designs.RuleParts(RULES))
    found.reference = memory.verdicts(memory.run(designs.BY_NAME["sequential"], found.rules, found.traffic, 20_000))
    return found
