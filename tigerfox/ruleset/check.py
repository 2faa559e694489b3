"""From rule files to checked rules: every fault with its place, nothing ignored."""

import sys
from dataclasses import replace

from tigerfox.errors import RuleError
from tigerfox.ruleset.draft import Draft
from tigerfox.ruleset.groups import nearest
from tigerfox.ruleset.keywords import KEYWORDS, TESTS, is_not_yet
from tigerfox.ruleset.lexer import split_head, split_options
from tigerfox.ruleset.protocols import APPS, NOT_YET, PAYLOADS, RULE_PROTOCOLS
from tigerfox.ruleset.rule import ACTIONS, Place, Problem, Refusal, RuleList
from tigerfox.ruleset.source import RuleText, find_files, read_rules, resting_collector
from tigerfox.ruleset.variables import Variables

_ACTIONS = {name: name for name in ACTIONS} | {"rejectsrc": "reject"}
_OTHER_WAY = "leave the rule out, or load the others with --lenient"


# Public API


def load_rules(paths, variables=None, lenient=False):
    """Read, check and return the rules of files and folders.

    ``variables`` is a Variables; ``lenient`` leaves out what is refused, and the RuleList says what and why. Raises
    errors.RuleError with all problems when a file cannot be read (a variable's list too, though no rule may name it)
    or, unless ``lenient``, when a rule is refused.
    """
    variables = variables or Variables()
    texts = (text for path in find_files(paths) for text in read_rules(path))
    with resting_collector():
        found = _collect(texts, variables, lenient)
        faults = tuple(Problem(refusal.place or Place(f"${name}", 1, 1), refusal.message, "address list")
                       for name, refusal in variables.faults_unasked())
    if faults and not lenient:
        raise RuleError(faults)
    return replace(found, problems=found.problems + faults)


def read_rule_text(text, variables=None, lenient=False, file="rules"):
    """Check one rule's text, as `load_rules` does for files; for rules that do not come from a file."""
    return _collect([RuleText(file, text, (0,), 1)], variables or Variables(), lenient)


def check_files(paths, options=(), lenient=False, as_json=False):
    """Check rule files for the command line: print every problem and a summary; return the exit code.

    ``options`` are texts NAME=VALUE. With ``lenient`` refused rules do not make the exit code 1.
    """
    try:
        found = load_rules(paths, Variables.from_options(options), lenient=True)
    except RuleError as error:
        found = RuleList((), tuple(error.problems), (), 0)
        lenient = False
    if as_json:
        _write_json(found)
    else:
        sys.stdout.writelines(f"{problem}\n" for problem in found.problems)
        sys.stderr.writelines(f"{warning} (warning)\n" for warning in found.warnings)
        sys.stderr.write(found.summary() + "\n")
    return 1 if found.problems and not lenient else 0


# From one text to one rule


def _collect(texts, variables, lenient):
    rules, problems, warnings, refused = {}, [], [], 0
    for text in texts:
        draft = _read(text, variables)
        rule = draft.finish()
        if rule is not None:
            rule = _take(rules, rule, draft)
        warnings += draft.warnings
        if rule is None:
            refused += 1
            problems += draft.problems
    problems = list(dict.fromkeys(problems))
    if problems and not lenient:
        raise RuleError(problems)
    return RuleList(tuple(rules.values()), tuple(problems), tuple(warnings), refused)


def _take(rules, rule, draft):
    """Add the rule under its gid and sid: a higher revision replaces, any other is a duplicate."""
    key = rule.gid, rule.sid
    other = rules.get(key)
    if other is None or other.rev < rule.rev:
        if other is not None:
            draft.option = draft.keywords["sid"][1][0]
            draft.warn(f"sid {rule.sid}: replaces revision {other.rev} at {other.place}", "replaced")
            del rules[key]
        rules[key] = rule
        return rule
    message = f"duplicate signature {rule.sid}: it stands at {other.place} too; give it another sid or a higher rev"
    draft.refuse(Refusal(message, kind="duplicate signature"), draft.keywords["sid"][1][0].offset)
    return None


def _read(text, variables):
    """Return the Draft of a rule, filled as far as it could be read."""
    draft = Draft(text)
    try:
        parts, at = split_head(text.text)
    except Refusal as refusal:
        return _broken(draft, refusal)
    _read_head(draft, parts, variables)
    try:
        options = split_options(text.text, at)
    except Refusal as refusal:
        return _broken(draft, refusal)
    unsupported = False
    for option in options:
        row = KEYWORDS.get(option.name) or KEYWORDS.get(option.name.lower())
        if row is not None:
            _read_option(draft, row, option)
        else:
            unsupported = _refuse_unknown(draft, option, unsupported)
    draft.narrow(variables.shared)
    draft.check_inspector(variables.inspectors)
    return draft


def _broken(draft, refusal):
    draft.refuse(refusal, 0)
    draft.broken = True
    return draft


def _read_head(draft, parts, variables):
    action, protocol, src, sport, direction, dst, dport = parts
    _attempt(draft, "action", _action, action)
    _attempt(draft, "protocol", _protocol, protocol)
    word = protocol.text.lower()
    draft.app, draft.payload = APPS.get(word), PAYLOADS.get(word, "any")
    _attempt(draft, "bidirectional", _direction, direction)
    _attempt(draft, "src", variables.addresses, src)
    _attempt(draft, "sport", variables.ports, sport)
    _attempt(draft, "dst", variables.addresses, dst)
    _attempt(draft, "dport", variables.ports, dport)


def _attempt(draft, name, parse, part):
    try:
        setattr(draft, name, parse(part.text))
    except Refusal as refusal:
        draft.refuse(refusal, part.offset)


def _action(text):
    found = _ACTIONS.get(text.lower())
    if found is None:
        if text.lower() == "config":
            raise Refusal(f"config: not supported yet by this version; {_OTHER_WAY}", kind="config: not supported yet")
        raise Refusal(f"{text[:40]!r} is not an action{nearest(text.lower(), _ACTIONS)}; "
                      f"write one of {' '.join(_ACTIONS)}",
                      kind="unknown action")
    return found


def _protocol(text):
    name = text.lower()
    found = RULE_PROTOCOLS.get(name)
    if found is None:
        if name in NOT_YET:
            raise Refusal(f"{name}: this protocol is not supported yet by this version; "
                          f"write tcp, udp or ip, or {_OTHER_WAY}",
                          kind=f"protocol {name}: not supported yet")
        raise Refusal(f"{text[:40]!r} is not a protocol{nearest(name, RULE_PROTOCOLS)}; "
                      f"write ip with ip_proto:NUMBER, or one of {' '.join(RULE_PROTOCOLS)}", kind="unknown protocol")
    return found


def _direction(text):
    if text in ("->", "<>"):
        return text == "<>"
    if text == "<-":
        raise Refusal("<- is not a direction; write the two sides the other way round and ->", kind="direction")
    raise Refusal(f"{text[:20]!r} is not a direction of Suricata 7.0; write -> or <>", kind="direction")


def _refuse_unknown(draft, option, told):
    """Refuse a keyword that has no row. Of those that Suricata knows the first is told; return whether one was."""
    name = option.name.lower()
    if is_not_yet(name):
        if not told:
            message = f"{name}: not supported yet by this version; {_OTHER_WAY}"
            draft.refuse(Refusal(message, kind=f"{name}: not supported yet"), option.offset)
        return True
    if name:
        close = nearest(name, KEYWORDS)
        message = f"{option.name[:40]!r} is not a keyword{close}; `tigerfox rules keywords` lists them"
    else:
        message = "an empty option; take this ; away"
    draft.refuse(Refusal(message, kind="unknown keyword"), option.offset)
    return told


def _read_option(draft, row, option):
    draft.option = option
    start = option.offset if option.value is None else option.value_offset
    try:
        if not row.several and row.name in draft.keywords:
            raise Refusal("stands twice in this rule; write it once", option.offset - start)
        draft.seen(row, option)
        value, skipped = _plain_value(draft, row, option)
    except Refusal as refusal:
        draft.refuse(refusal, start, row.name)
        return
    try:
        if row.field is None:
            row.parse(draft, value)
        else:
            draft.conditions += [(row.cost, condition) for condition in row.parse(value)]
        if row.name in TESTS:
            draft.last_keyword = row.name
    except Refusal as refusal:
        draft.refuse(refusal, start + skipped, row.name)


def _plain_value(draft, row, option):
    """Return the value without its quotes, and how many characters were taken off in front."""
    value, skipped = option.value, 0
    if not row.value:
        if value:
            raise Refusal(f"takes no value; write {row.name};")
        return value, 0
    if not value and row.optional:
        return "", 0
    if row.negatable and value:
        bare = value.removeprefix("!").lstrip() if value[0] == "!" else value
        skipped = len(value) - len(bare)
        draft.negated, value = skipped > 0, bare
    if not value:
        raise Refusal(f"the value is missing; write e.g. {row.example}")
    if value[0] != '"':
        if row.quotes == "must":
            raise Refusal(f"the value must stand in quotes; write e.g. {row.example}")
        return value, skipped
    if row.quotes == "no":
        raise Refusal(f"no quotes here; write e.g. {row.example}")
    if len(value) < 2 or value[-1] != '"':
        raise Refusal("the closing quote is missing; write a \" before the ;, and \\; for a ; between the quotes")
    if len(value) == 2:
        raise Refusal(f"nothing stands between the quotes; write e.g. {row.example}")
    return value[1:-1], skipped + 1


def _write_json(found):
    import json

    def rows(problems):
        return [{"file": p.place.file, "line": p.place.line, "column": p.place.column, "message": p.message,
                 "reason": p.kind}
                for p in problems]

    result = {"loaded": len(found.rules), "refused": found.refused, "problems": rows(found.problems),
              "warnings": rows(found.warnings), "reasons": dict(found.reasons())}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
