"""How the tests of the rule language read one rule."""

from tigerfox.ruleset.check import read_rule_text

HEAD = "alert {} any any -> any any ("


def read(options, protocol="tcp"):
    """The RuleList of a rule with these options."""
    return read_rule_text(f"{HEAD.format(protocol)}{options} sid:1;)", lenient=True)


def rule(options, protocol="tcp"):
    """The rule, which must load."""
    found = read(options, protocol)
    assert not found.problems, [str(problem) for problem in found.problems]
    return found.rules[0]


def parts(options, protocol="tcp"):
    """The rule's parts as pairs of a buffer (and its transforms) and its tests."""
    return [(" ".join((part.buffer, *part.transforms)), part.tests) for part in rule(options, protocol).parts]
