"""Address and port expressions, variables and list files."""

import gzip
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tigerfox.errors import RuleError, UsageError
from tigerfox.ruleset.check import check_files, load_rules, read_rule_text
from tigerfox.ruleset.groups import merge, subtract
from tigerfox.ruleset.rule import ANY_ADDRESS, ANY_PORT, V4_LAST, V6_LAST, Refusal
from tigerfox.ruleset.variables import DEFAULTS, Variables


def net(text):
    network = ipaddress.ip_network(text)
    return int(network.network_address), int(network.broadcast_address)


HOME = (net("10.0.0.0/8"), net("172.16.0.0/12"), net("192.168.0.0/16"))
NOT_HOME = subtract([(0, V4_LAST)], HOME)
DOC = net("2001:db8::/32")

ADDRESSES = [
    ("any", ((0, V4_LAST),), ((0, V6_LAST),)),
    ("ANY", ((0, V4_LAST),), ((0, V6_LAST),)),
    ("192.0.2.1", (net("192.0.2.1/32"),), ()),
    ("192.0.2.77/24", (net("192.0.2.0/24"),), ()),
    ("192.0.2.77/255.255.255.0", (net("192.0.2.0/24"),), ()),
    ("0.0.0.0/0", ((0, V4_LAST),), ()),
    ("192.0.2.1-192.0.2.9", ((net("192.0.2.1/32")[0], net("192.0.2.9/32")[0]),), ()),
    ("2001:db8::1/32", (), (DOC,)),
    ("::/0", (), ((0, V6_LAST),)),
    ("2001:db8::1-2001:db8::2", (), ((DOC[0] + 1, DOC[0] + 2),)),
    ("!192.0.2.0/24", subtract([(0, V4_LAST)], [net("192.0.2.0/24")]), ()),
    ("!2001:db8::/32", (), subtract([(0, V6_LAST)], [DOC])),
    ("[10.0.0.0/8,!10.1.0.0/16]", subtract([HOME[0]], [net("10.1.0.0/16")]), ()),
    ("[10.0.0.0/9, 10.128.0.0/9]", (HOME[0],), ()),
    ("[10.0.0.0/8,![10.1.0.0/16,!10.1.2.0/24]]",
     merge([*subtract([HOME[0]], [net("10.1.0.0/16")]), net("10.1.2.0/24")]), ()),
    ("[10.0.0.0/8,!2001:db8::/32]", (HOME[0],), subtract([(0, V6_LAST)], [DOC])),
    ("[any,!192.0.2.1]", subtract([(0, V4_LAST)], [net("192.0.2.1/32")]), ((0, V6_LAST),)),
    ("[192.0.2.1,]", (net("192.0.2.1/32"),), ()),
    ("192.0.2.1,192.0.2.2", (net("192.0.2.1/32")[:1] + net("192.0.2.2/32")[:1],), ()),
    ("$HOME_NET", HOME, ()),
    ("$EXTERNAL_NET", NOT_HOME, ()),
    ("!$HOME_NET", NOT_HOME, ()),
    ("!$EXTERNAL_NET", HOME, ()),
    ("[$HOME_NET,!10.0.0.0/8]", HOME[1:], ()),
    ("[8.8.8.8,$EXTERNAL_NET]", (net("8.8.8.8/32"),), ()),
]

PORTS = [
    ("any", ((0, 65535),)), ("80", ((80, 80),)), ("0", ((0, 0),)), ("1:1024", ((1, 1024),)), ("1024:",
                                                                                              ((1024, 65535),)),
    (":1024", ((0, 1024),)), ("!80", ((0, 79), (81, 65535))), ("[80,443]", ((80, 80), (443, 443))),
    ("[80, 81 ,82]", ((80, 82),)), ("[1:100,!50]", ((1, 49), (51, 100))), ("![80,443]",
                                                                           ((0, 79), (81, 442), (444, 65535))),
    ("!1:1024", ((0, 0), (1025, 65535))), ("$HTTP_PORTS", ((80, 80),)), ("$SHELLCODE_PORTS", ((0, 79), (81, 65535))),
    ("$FILE_DATA_PORTS", ((80, 80), (110, 110), (143, 143))), ("!$HTTP_PORTS", ((0, 79), (81, 65535))),
]


@pytest.mark.parametrize(("text", "v4", "v6"), ADDRESSES, ids=[row[0] for row in ADDRESSES])
def test_addresses(text, v4, v6):
    found = Variables().addresses(text)
    assert found.v4 == merge(list(v4))
    assert found.v6 == merge(list(v6))


@pytest.mark.parametrize(("text", "intervals"), PORTS)
def test_ports(text, intervals):
    assert Variables().ports(text).intervals == intervals


def test_equal_sets_are_one_object():
    variables = Variables()
    assert variables.addresses("$HOME_NET") is variables.addresses("$HTTP_SERVERS")
    assert variables.addresses("[0.0.0.0/0,::/0]") is variables.addresses("any")
    assert variables.addresses("any") == ANY_ADDRESS and variables.addresses("any").is_any
    assert variables.ports("0:65535") == ANY_PORT and variables.ports(":").is_any


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_default_stands_for_something(name):
    variables = Variables()
    assert variables.ports(f"${name}") if name.endswith("_PORTS") else variables.addresses(f"${name}")


def test_variables_may_nest_and_be_replaced():
    variables = Variables.from_options(["HOME_NET=[10.0.0.0/8]", "MINE=[$HOME_NET,192.0.2.1]"])
    assert variables.addresses("$MINE").v4 == (net("10.0.0.0/8"), net("192.0.2.1/32"))
    assert variables.addresses("$EXTERNAL_NET").v4 == subtract([(0, V4_LAST)], [net("10.0.0.0/8")])


def test_a_loop_between_variables_is_named():
    with pytest.raises(Refusal, match=r"\$A -> \$B -> \$A"):
        Variables({"A": "[10.0.0.0/8,$B]", "B": "!$A"}).addresses("$A")


def test_a_wrong_value_names_its_variable():
    with pytest.raises(Refusal, match=r"in \$SSH_PORTS: in \$MINE: 'ssh' is not a port"):
        Variables({"SSH_PORTS": "$MINE", "MINE": "ssh"}).ports("$SSH_PORTS")


@pytest.mark.parametrize("option", ["HOME_NET", "=1", "HOME_NET=", ""])
def test_wrong_var_option_is_usage(option):
    with pytest.raises(UsageError, match="NAME=VALUE"):
        Variables.from_options([option])


LIST = b"""# comment
192.0.2.1\t9
192.0.2.77/28 ; text
  198.51.100.0/24
2001:db8::1/48
203.0.113.5-203.0.113.7 # range
203.0.113.9,some,text\r
; comment

198.51.100.7#text
"""


@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
def test_list_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(LIST) if name.endswith("gz") else LIST)
    found = Variables({"BAD": f"@{path}"}).addresses("$BAD")
    low = net("203.0.113.0/32")[0]
    assert found.v4 == (net("192.0.2.1/32"), net("192.0.2.64/28"), net("198.51.100.0/24"), (low + 5, low + 7),
                        (low + 9, low + 9))
    assert found.v6 == (net("2001:db8::/48"),)


def test_list_file_in_an_expression(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("10.0.0.0/8\n")
    variables = Variables({"BAD": f"@{path}"})
    assert variables.addresses("[$BAD,!10.0.0.0/9]").v4 == (net("10.128.0.0/9"),)
    assert variables.addresses("!$BAD").v4 == subtract([(0, V4_LAST)], [net("10.0.0.0/8")])


def test_empty_list_file_holds_nothing(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# nobody today\n")
    variables = Variables({"BAD": f"@{path}"})
    assert variables.addresses("$BAD").is_empty
    assert variables.addresses("!$BAD").is_any


@pytest.mark.parametrize(("line", "column"),
                         [("  example.org", 3), ("192.0.2.1/33", 1), ("1.2.3", 1), ("192.0.2.1/-1", 1),
                          ("192.0.2.1/+8", 1)])
def test_bad_line_of_a_list_has_its_place(tmp_path, line, column):
    path = tmp_path / "list.txt"
    path.write_text(f"10.0.0.1\n{line}\n")
    found = read_rule_text("drop ip $BAD any -> any any (sid:1;)", Variables({"BAD": f"@{path}"}), lenient=True)
    assert str(found.problems[0]).startswith(f"{path}:2:{column}: ")


def test_missing_list_file_has_the_place_of_its_use(tmp_path):
    found = read_rule_text("drop ip $BAD any -> any any (sid:1;)", Variables({"BAD": f"@{tmp_path}/none.txt"}),
                           lenient=True)
    assert str(found.problems[0]).startswith("rules:1:9: in $BAD: the address list")
    assert "No such file" in str(found.problems[0])


@pytest.mark.parametrize(("lenient", "code"), [(False, 1), (True, 0)])
def test_a_list_that_no_rule_names_is_read_too(tmp_path, capsys, lenient, code):
    rules = tmp_path / "one.rules"
    rules.write_text("drop ip any any -> any any (sid:1;)\n")
    assert check_files([rules], [f"BAD=@{tmp_path}/none.txt"], lenient) == code
    assert capsys.readouterr().out.startswith("$BAD:1:1: the address list")
    with pytest.raises(RuleError, match="none.txt cannot be read"):
        load_rules([rules], Variables({"BAD": f"@{tmp_path}/none.txt"}))


def test_one_bad_list_is_told_once(tmp_path, capsys):
    rules = tmp_path / "two.rules"
    (tmp_path / "list.txt").write_text("nonsense\n")
    rules.write_text("".join(f"drop ip $BAD any -> any any (sid:{i};)\n" for i in (1, 2)))
    assert check_files([rules], [f"BAD=@{tmp_path}/list.txt"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "0 rules loaded, 2 refused" in err


SMALL = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])),
                 max_size=12)


@given(SMALL, SMALL)
def test_interval_arithmetic(wanted, taken):
    def members(intervals):
        return {number for first, last in intervals for number in range(first, last + 1)}

    left = subtract(merge(wanted), merge(taken))
    assert members(left) == members(wanted) - members(taken)
    joined = merge(wanted)
    assert members(joined) == members(wanted)
    assert all(one[1] + 1 < other[0] for one, other in zip(joined, joined[1:], strict=False))


PREFIXES = st.one_of(
    st.tuples(st.integers(0, V4_LAST),
              st.integers(0, 32)).map(lambda p: ipaddress.ip_network((p[0], p[1]), strict=False)),
    st.tuples(st.integers(0, V6_LAST),
              st.integers(0, 128)).map(lambda p: ipaddress.ip_network((p[0], p[1]), strict=False)),
)


@given(st.lists(PREFIXES, min_size=1, max_size=20))
def test_lists_agree_with_the_standard_library(networks):
    found = Variables().addresses("[" + ",".join(str(network) for network in networks) + "]")
    for version, intervals in ((4, found.v4), (6, found.v6)):
        assert intervals == merge([net(network) for network in networks if network.version == version])
