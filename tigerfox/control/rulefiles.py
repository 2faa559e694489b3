"""From rule files to what the data plane maps and what events say: read, check, compile, describe."""

import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class RuleImage:
    """``image`` is the compiled set, ``copy_range`` the bytes of a packet that it needs.

    ``metadata[number]`` is what an event of that rule says: [action, gid, sid, rev, msg, category, severity].
    ``refused`` rules were left out, ``left_out`` says why, ``warnings`` what is odd but loads, both as text. ``count``
    is the number of rules as they stand in the files.
    """

    image: bytes
    copy_range: int
    count: int
    metadata: list
    refused: int
    left_out: list
    warnings: list


def compile_files(files, variables, lenient, block_seconds, cache="none", inspectors=None):
    """Return the RuleImage of rule files (or folders of ``*.rules``).

    ``variables`` maps names to expressions as in Suricata's configuration; ``lenient`` leaves refused rules out instead
    of refusing them all; ``block_seconds`` is how long a drop blocks where its rule does not say. ``cache`` is the setting
    ``rules.cache``: where what was compiled before is kept. ``inspectors``: names of the Python inspectors there are, None where
    rules may name any. Raises RuleError.
    """
    from tigerfox.ruleset.cache import WORTH_KEEPING, Cache, folder_of

    folder = folder_of(cache)
    key = _key(files, variables, lenient, block_seconds, inspectors) if folder else None
    kept = Cache(folder).get(key) if key else None
    if kept:
        described, image = kept
        return RuleImage(image, **described)
    started = time.monotonic()
    made = _compile(files, variables, lenient, block_seconds, inspectors)
    if key and time.monotonic() - started >= WORTH_KEEPING:
        described = asdict(made)
        Cache(folder).put(key, described, described.pop("image"))
    return made


def _key(files, variables, lenient, block_seconds, inspectors):
    from tigerfox import __version__
    from tigerfox.dataplane import inspect, scan
    from tigerfox.dataplane.image import IMAGE_LAYOUT
    from tigerfox.ruleset.cache import key_of
    from tigerfox.ruleset.source import find_files

    libraries = f"libhs {scan.library()} pcre2 {inspect.library()}"
    return key_of(find_files(files), variables, f"{__version__} {IMAGE_LAYOUT} {libraries} {lenient} {block_seconds} {inspectors}")


def _compile(files, variables, lenient, block_seconds, inspectors):
    from tigerfox.dataplane.image import CompiledRules
    from tigerfox.ruleset.check import load_rules
    from tigerfox.ruleset.compile import compile_rules
    from tigerfox.ruleset.source import resting_collector
    from tigerfox.ruleset.variables import Variables

    with resting_collector():
        found = load_rules(files, Variables(variables, inspectors), lenient=lenient)
        compiled = compile_rules(found.rules, block_seconds, inspectors or ())
    metadata = [[rule.action, rule.gid, rule.sid, rule.rev, rule.msg, rule.category, rule.priority]
                for rule in compiled.rules]
    copy_range = CompiledRules.from_buffer(compiled.image).copy_range
    return RuleImage(compiled.image, copy_range, len(found.rules), metadata, found.refused,
                     [str(problem) for problem in found.problems], [str(warning) for warning in found.warnings])


def summary(refused, left_out, most=20):
    """Return the lines that say how many rules were left out and why, at most ``most`` problems one by one."""
    if not left_out:
        return []
    lines = [f"{refused} {'rule was' if refused == 1 else 'rules were'} left out:" if refused else "no rule was left out, but:"]
    lines += [f"  {text}" for text in left_out[:most]]
    if len(left_out) > most:
        lines.append(f"  … and {len(left_out) - most} more; `tigerfox rules check` shows all")
    return lines
