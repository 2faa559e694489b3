"""Rule lines of the corpus: what Suricata 7.0.10 loads and refuses in the header language, and real rule files."""

import gzip
import json
import re

import pytest

from tigerfox.ruleset.check import load_rules, read_rule_text
from tigerfox.ruleset.keywords import KEYWORDS
from tigerfox.ruleset.protocols import RULE_PROTOCOLS
from tigerfox.ruleset.variables import Variables

pytestmark = pytest.mark.corpus
WORD = re.compile(r"(?:^|;)\s*([A-Za-z_.0-9-]+)")
QUOTED = re.compile(r'"(\\.|[^"])*"')


def is_header_language(line):
    """Whether protocol and keywords of a rule line are all in the header language; decided without the parser."""
    head, _, body = line.partition("(")
    words = WORD.findall(QUOTED.sub('""', body))
    return head.split()[1:2] and head.split()[1] in RULE_PROTOCOLS and all(word in KEYWORDS for word in words)


def test_header_lines_as_suricata(corpus):
    variables, seen = Variables(), {True: 0, False: 0}
    for line in (corpus / "parse" / "rules.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["error_kind"] != "environment" and is_header_language(row["rule"]):
            loads = row["loads_in_suricata_7_0_10"]
            assert bool(read_rule_text(row["rule"], variables, lenient=True).rules) == loads, row["rule"]
            seen[loads] += 1
    assert seen[True] >= 70
    assert seen[False] >= 10


def test_no_line_that_suricata_refuses_is_accepted(corpus):
    variables = Variables()
    for line in (corpus / "parse" / "rules.jsonl").read_text().splitlines():
        row = json.loads(line)
        if not row["loads_in_suricata_7_0_10"]:
            assert not read_rule_text(row["rule"], variables, lenient=True).rules, row["rule"]


def test_real_rule_files(corpus):
    """Every header rule loads; of the others, nothing is refused but for what is not there yet."""
    variables, header = Variables(), 0
    for path in sorted((corpus / "rules").glob("*.rules.gz")):
        lines = gzip.open(path, "rt", encoding="utf-8", errors="replace").read().splitlines()
        wanted = [line for line in lines if line and line[0] != "#" and is_header_language(line)]
        found = load_rules([path], variables, lenient=True)
        assert {rule.text for rule in found.rules} == set(wanted)
        assert not [str(problem) for problem in found.problems if not problem.kind.endswith("not supported yet")]
        assert len(found.rules) + found.refused == len([line for line in lines if line and line[0] != "#"])
        header += len(wanted)
    assert header >= 150


def test_rules_of_the_cases(corpus):
    loaded = 0
    for folder in sorted((corpus / "cases").iterdir()):
        if not (folder / "expected.json").is_file():
            continue
        variables = Variables(json.loads((folder / "expected.json").read_text())["vars"])
        found = load_rules([folder / "test.rules"], variables, lenient=True)
        assert not [str(problem) for problem in found.problems if not problem.kind.endswith("not supported yet")]
        loaded += len(found.rules)
    assert loaded
