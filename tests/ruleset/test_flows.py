"""flow, flowbits, stream_size and app-layer-protocol: what is accepted and what it means."""

import pytest
from reading import rule

from tigerfox.ruleset.rule import AppProtocol, Flow, Flowbit, StreamSize

FLOWS = [
    ("established", Flow(state="established")), ("to_server", Flow("to_server")), ("from_client", Flow("to_server")),
    ("to_client,established", Flow("to_client", "established")), (" From_Server , ESTABLISHED ", Flow("to_client", "established")),
    ("not_established", Flow(state="not_established")), ("stateless", Flow(state="stateless")),
    ("established,to_server,only_stream", Flow("to_server", "established", "only_stream")), ("no_stream", Flow(data="no_stream")),
    ("no_frag", Flow(fragments="no_frag")), ("only_frag", Flow(fragments="only_frag")),
]


@pytest.mark.parametrize(("value", "flow"), FLOWS)
def test_flow(value, flow):
    assert rule(f"flow:{value};").flow == flow


BITS = [
    ("set,a", Flowbit("set", ("a",))), ("unset, a.b-c", Flowbit("unset", ("a.b-c",))), ("toggle,a", Flowbit("toggle", ("a",))),
    ("isset,a|b | c", Flowbit("isset", ("a", "b", "c"))), ("isnotset,a|b", Flowbit("isnotset", ("a", "b"))),
    ("isset , a", Flowbit("isset", ("a",))),
]


@pytest.mark.parametrize(("value", "bit"), BITS)
def test_flowbit(value, bit):
    assert rule(f"flowbits:{value};").flowbits == (bit,)


def test_flowbits_stand_in_the_order_of_the_text():
    found = rule("flowbits:isset,a; flowbits:set,b; flowbits:noalert;")
    assert [bit.op for bit in found.flowbits] == ["isset", "set"]
    assert found.noalert


def test_alert_takes_a_noalert_back():
    assert not rule("flowbits:noalert; alert;").noalert
    assert rule("alert; noalert;").noalert


SIZES = [
    ("server,<,1111", StreamSize("server", "<", 1111)), ("client, >= , 5", StreamSize("client", ">=", 5)),
    ("both,!=,0", StreamSize("both", "!=", 0)), ("either,=,9", StreamSize("either", "=", 9)),
]


@pytest.mark.parametrize(("value", "size"), SIZES)
def test_stream_size(value, size):
    assert rule(f"stream_size:{value};").stream_sizes == (size,)


APPS = [
    ("app-layer-protocol:http;", (AppProtocol("http"),)), ("app-layer-protocol:!tls;", (AppProtocol("tls", True),)),
    ("app-layer-protocol:!http1; app-layer-protocol:! dns;", (AppProtocol("http", True), AppProtocol("dns", True))),
    ("app-layer-protocol:failed;", (AppProtocol("failed"),)),
]


@pytest.mark.parametrize(("options", "apps"), APPS)
def test_app_layer_protocol(options, apps):
    assert rule(options).apps == apps
