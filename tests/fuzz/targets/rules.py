"""A rule file: every rule in it becomes one that compiles, or is refused with its place; nothing else ever happens."""

import json
import os
import random
import tempfile
import zlib
from pathlib import Path

from tigerfox.dataplane.image import CompiledRules
from tigerfox.errors import RuleError
from tigerfox.ruleset.check import load_rules
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.keywords import TABLE
from test_fuzz_edges import RULES

PYTHON_LINES = True
WORDS = [row.name.encode() for row in TABLE] + [row.example.encode() for row in TABLE if len(row.example) < 60]
FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "any.rules"
COMPILED_OF = 8 if "TIGERFOX_FUZZ_TARGET" in os.environ else 1      # compiling takes much longer than reading
HEAD = "alert tcp any any -> any any (msg:\"m\"; "


def corpus_rules(count):
    """Rules of the corpus, those Suricata takes and those it refuses, for fuzzing with TIGERFOX_CORPUS set."""
    path = Path(os.environ.get("TIGERFOX_CORPUS", "")) / "parse" / "rules.jsonl"
    if "TIGERFOX_FUZZ_TARGET" not in os.environ or not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    texts = [row.get("rule") or row.get("text") or "" for row in rows]
    return random.Random(7).sample([text for text in texts if 0 < len(text) < 1500], count)


def seeds():
    made = [f"{HEAD}content:\"abc\"; {row.example} sid:{number};)" for number, row in enumerate(TABLE, 1)]
    made += RULES.splitlines() + corpus_rules(600)
    return [one.encode() for one in (*made, RULES, "\\\n".join(RULES.split(";")))]


def check(data):
    FILE.write_bytes(data)
    lines = bytes(data).decode("utf-8", "surrogateescape").split("\n")      # a byte that is no UTF-8 is one column
    try:
        found = load_rules([FILE], lenient=True)
    except RuleError as error:
        raise AssertionError("lenient, and still refused as a whole") from error
    for problem in (*found.problems, *found.warnings):
        place = problem.place
        assert place.file == str(FILE) and 1 <= place.line <= len(lines), str(problem)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1, (str(problem), lines[place.line - 1])
        assert problem.message and problem.kind and "\n" not in str(problem), str(problem)
    assert bool(found.problems) == bool(found.refused)
    if found.rules and zlib.crc32(data) % COMPILED_OF == 0:
        CompiledRules.from_buffer(compile_rules(found.rules).image)
