"""Rule files: heads, places, duplicates, what the command prints."""

import gzip
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tigerfox.cli import app
from tigerfox.errors import RuleError
from tigerfox.ruleset.check import load_rules, read_rule_text
from tigerfox.ruleset.keywords import TABLE
from tigerfox.ruleset.protocols import RULE_PROTOCOLS
from tigerfox.ruleset.source import read_rules
from tigerfox.ruleset.variables import Variables


def rules_file(folder, text, name="test.rules"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def told(text):
    """The problems of one rule, as `line:column: message`."""
    found = read_rule_text(text, lenient=True)
    assert not found.rules
    return [str(problem).removeprefix("rules:") for problem in found.problems]


ACCEPTED = [
    'alert tcp any any -> any any (msg:"x"; sid:1;)',
    "alert tcp any any -> any any(sid:1;)",
    "  ALERT TCP any any -> any any ( sid:1 ; rev : 2 ;)  ",
    "alert\ttcp\tany any\t<> any 80 (sid:1;)",
    "drop tcp [10.0.0.0/8, !10.1.0.0/16] [1:100, 200] -> any ![80, 443] (sid:1;)",
    "drop tcp-pkt any any -> any any (sid:1;)",
    "alert icmp any 80 -> any 90 (sid:1;)",
    "reject sctp any any -> any any (SID:1;)",
    'alert udp any any -> any any (msg:"é \u2028 ✓"; sid:"1";)',
    "alert ip any any -> any any (sid:1; )",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text):
    found = read_rule_text(text, lenient=True)
    assert not found.problems
    assert found.rules[0].sid == 1
    assert found.rules[0].text == text.strip()


def test_every_fault_of_a_rule_is_told():
    faults = told('alert tcp any 99999 <- $X any (tag:host; lua:b; pcre:"b"; ttl:x; dsiz:1;)')
    assert [fault.split(":")[1] for fault in faults] == ["21", "15", "24", "32", "55", "63", "66", "73"]


HEADS = [
    ("alert", "alert"), ("pass", "pass"), ("drop", "drop"), ("reject", "reject"), ("rejectsrc", "reject"),
    ("rejectdst", "rejectdst"), ("rejectboth", "rejectboth"),
]


@pytest.mark.parametrize(("word", "action"), HEADS)
def test_actions(word, action):
    assert read_rule_text(f"{word} ip any any -> any any (sid:1;)").rules[0].action == action


@pytest.mark.parametrize(("word", "protocol"),
                         [("ip4", "ipv4"), ("IPv6", "ipv6"), ("icmp6", "icmpv6"), ("tcp-pkt", "tcp")])
def test_protocols(word, protocol):
    assert read_rule_text(f"alert {word} any any -> any any (sid:1;)").rules[0].protocol == protocol


def test_both_directions_of_equal_sides_are_one():
    assert not read_rule_text("alert tcp any 80 <> any 80 (sid:1;)").rules[0].bidirectional
    assert read_rule_text("alert tcp any any <> any 80 (sid:1;)").rules[0].bidirectional


def test_comments_blanks_and_continued_lines(tmp_path):
    path = rules_file(tmp_path, '# one\n\n  # two\n; three\r\n  alert tcp any any -> any any (sid:1;)\r\n'
                                'alert tcp any any -> \\\n   any any (msg:"a \\\r\nb"; ttl:5; \\\n sid:2;)\n# end \\\n'
                                "alert udp any any -> any any (sid:3;) \\")
    rules = load_rules([path]).rules
    assert [(rule.sid, rule.place.line, rule.place.column) for rule in rules] == [(1, 5, 3), (2, 6, 1), (3, 11, 1)]
    assert rules[1].msg == "a b"


def test_places_in_continued_lines(tmp_path):
    path = rules_file(tmp_path, "\nalert tcp any any -> \\\n   any 99999 (ttl:5; \\\n \\\n  idd:1; sid:2;)\n")
    with pytest.raises(RuleError) as caught:
        load_rules([path])
    assert [str(problem.place) for problem in caught.value.problems] == [f"{path}:3:8", f"{path}:5:3"]


def test_a_place_for_every_character(tmp_path):
    path = rules_file(tmp_path, "ab\\\ncd\\\n\\\nef")
    text = next(read_rules(path))
    places = [(text.place(i).line, text.place(i).column) for i in range(len(text.text))]
    assert places == [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2)]


def test_bytes_that_are_not_utf8(tmp_path):
    path = rules_file(tmp_path, b'alert tcp any any -> any any (msg:"\xff\xfe"; sid:1;)\n')
    assert load_rules([path]).rules[0].msg == "\ufffd\ufffd"


def test_packed_files_and_folders(tmp_path):
    rules_file(tmp_path, "alert ip any any -> any any (sid:2;)", "b.rules")
    rules_file(tmp_path, gzip.compress(b"alert ip any any -> any any (sid:3;)"), "c.rules.gz")
    rules_file(tmp_path, "alert ip any any -> any any (sid:1;)", "a.rules")
    rules_file(tmp_path, "not a rule", "readme.txt")
    assert sorted(rule.sid for rule in load_rules([tmp_path]).rules) == [1, 2, 3]


@pytest.mark.parametrize("name", ["none.rules", "broken.rules.gz", "empty"])
def test_a_file_that_cannot_be_read(tmp_path, name):
    rules_file(tmp_path, b"\x1f\x8b no gzip", "broken.rules.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuleError, match=f"{name}:1:1: "):
        load_rules([tmp_path / name], lenient=True)


def test_duplicates_as_suricata(tmp_path):
    line = 'alert ip any any -> any any (msg:"{}"; sid:{}; rev:{}; gid:{};)\n'
    path = rules_file(tmp_path,
                      line.format("old", 1, 1, 1) + line.format("new", 1, 2, 1) + line.format("other", 1, 1, 2)
                      + line.format("same", 1, 2, 1) + line.format("lower", 1, 1, 1))
    found = load_rules([path], lenient=True)
    assert [rule.msg for rule in found.rules] == ["new", "other"]
    assert [problem.place.line for problem in found.problems] == [4, 5]
    assert "duplicate signature 1" in str(found.problems[0])
    assert found.refused == 2


def test_strict_raises_all_problems_and_lenient_leaves_out(tmp_path):
    path = rules_file(tmp_path,
                      'alert ip any any -> any any (sid:1;)\nalert tcp any any -> any any (tag:host; sid:2;)\nx\n')
    with pytest.raises(RuleError) as caught:
        load_rules([path], Variables())
    assert len(caught.value.problems) == 2
    found = load_rules([path], Variables(), lenient=True)
    assert (len(found.rules), found.refused) == (1, 2)
    assert found.summary() == "1 rules loaded, 2 refused: tag: not supported yet 1, rule head 1"


def test_command(tmp_path):
    good = rules_file(tmp_path, "drop ip $BAD any -> any any (sid:1;)\n", "good.rules")
    bad = rules_file(tmp_path, "drop ip any any -> any any (ttl:300; sid:1;)\n", "bad.rules")
    run = CliRunner()
    done = run.invoke(app, ["rules", "check", str(good), "--var", "BAD=192.0.2.0/24"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "1 rules loaded, 0 refused" in done.stderr
    done = run.invoke(app, ["rules", "check", str(bad)])
    assert done.exit_code == 1
    assert done.stdout == f"{bad}:1:33: ttl: 300 is over 255; write 0 to 255\n"
    assert "0 rules loaded, 1 refused: ttl 1" in done.stderr
    assert run.invoke(app, ["rules", "check", str(bad), "--lenient"]).exit_code == 0
    assert run.invoke(app, ["rules", "check", str(tmp_path / "none"), "--lenient"]).exit_code == 1


def test_command_in_json(tmp_path):
    bad = rules_file(tmp_path, "drop ip any any -> any any (ttl:300; sid:1;)\n")
    done = CliRunner().invoke(app, ["rules", "check", str(bad), "--json"])
    result = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (result["loaded"], result["refused"], result["reasons"]) == (0, 1, {"ttl": 1})
    assert (result["problems"][0]["line"], result["problems"][0]["column"]) == (1, 33)


def test_keywords_command():
    done = CliRunner().invoke(app, ["rules", "keywords", "--json"])
    assert len(json.loads(done.stdout)) == len(TABLE)


WORDS = st.sampled_from(
    ["alert", "drop", "tcp", "ip", "any", "->", "<>", "(", ")", ";", ":", "!", "[", "]", ",", "$HOME_NET", "$", "80",
     "1:", '"', "\\",
     "sid:1;", "ip_proto", "flags", "threshold", "block", "10.0.0.0/8", "::/0", "-", " ", "\n", "\t", "\x00", "²", "type limit"]
    + [row.name for row in TABLE] + [row.example for row in TABLE]
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(WORDS, max_size=30).map(" ".join),
    st.lists(WORDS, max_size=12).map(lambda words: f"alert tcp any any -> any any ({''.join(words)})"),
    st.tuples(st.sampled_from(sorted(RULE_PROTOCOLS)), st.lists(st.sampled_from([row.example for row in TABLE]), max_size=6)).map(
        lambda pair: f"alert {pair[0]} any any -> any any ({' '.join(pair[1])} sid:1;)"),
    st.tuples(st.sampled_from(TABLE),
              st.text(max_size=30)).map(lambda p: f"drop ip any any -> any any ({p[0].name}:{p[1]}; sid:1;)"),
    st.tuples(st.text("[]!,.:-$/ 0123456789af", max_size=40), st.text("[]!,:-$ 0123456789", max_size=20)).map(
        lambda p: f"drop ip {p[0]} {p[1]} -> any any (sid:1;)"),
)


@settings(max_examples=600, deadline=None)
@example("alert ip any any -> any any (ip_proto; sid:1;)")
@example("alert ip any any -> any any (ip_proto:;sid:1;)")
@given(TEXTS)
def test_no_text_raises_anything_but_rule_errors(text):
    found = read_rule_text(text, lenient=True)
    assert bool(found.rules) != bool(found.problems)
    assert len(found.rules) + found.refused == 1
    if found.problems:
        with pytest.raises(RuleError) as caught:
            read_rule_text(text)
        assert str(caught.value) == "\n".join(str(problem) for problem in found.problems)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_no_file_raises_anything_but_rule_errors(tmp_path_factory, content):
    path = rules_file(tmp_path_factory.mktemp("fuzz"), content + b"\nalert ip any any -> any any (sid:77;)\n")
    found = load_rules([path], lenient=True)
    assert found.refused + len(found.rules) >= 1
