"""Rules made by hand, compiled, and asked whether they hold in buffers."""

from tigerfox.dataplane import inspect
from tigerfox.dataplane.image import CompiledRules
from tigerfox.ruleset.buffers import BY_NAME
from tigerfox.ruleset.compile import compile_rules
from tigerfox.ruleset.rule import ANY_ADDRESS, ANY_PORT, Part, Place, Rule


def make_rule(*parts, sid=1, action="alert", protocol="tcp", **more):
    """A rule from anywhere to anywhere that looks into parts."""
    return Rule(Place("made.rules", sid, 1), "", action, protocol, ANY_ADDRESS, ANY_PORT, False, ANY_ADDRESS, ANY_PORT,
                sid=sid, parts=parts, **more)


def part(*tests, buffer="payload", transforms=()):
    return Part(buffer, tests, transforms)


def bind(*rules):
    return CompiledRules.from_buffer(compile_rules(rules).image)


class Asker:
    """One rule and what is needed to ask it."""

    def __init__(self, *parts):
        self.rules = bind(make_rule(*parts))
        self.hold = inspect.InspectorHold(self.rules)

    def __call__(self, buffers):
        """``buffers`` maps names to instances; bytes alone are a payload."""
        buffers = {"payload": [buffers]} if isinstance(buffers, bytes) else buffers
        return inspect.holds(self.hold, self.rules, 0, {BY_NAME[name]: found for name, found in buffers.items()})


def holds(data, *tests):
    """Whether tests of the payload hold in bytes."""
    return Asker(part(*tests))(data)
