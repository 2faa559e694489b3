"""Which inspectors are wanted: ``NAME=package.module:function[,open|closed][,processes=N][,OPTION=VALUE…]``."""

import importlib
import os
import sys
from dataclasses import dataclass, field

from tigerfox.errors import ConfigError, UsageError

MOST = 16
_MEND = "write NAME=package.module:function, as scan=mysite.scan:inspect"


@dataclass(frozen=True)
class Wanted:
    """One inspector: where its code is, the policy for it ("open" or "closed"), its processes, and options of its own."""

    name: str
    target: str
    policy: str
    processes: int = 1
    options: dict[str, str] = field(default_factory=dict)

    def make(self):
        """Return the callable. Raises UsageError when it cannot be imported or made."""
        module, _, attribute = self.target.partition(":")
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            found = getattr(importlib.import_module(module), attribute)
            made = found(**self.options) if isinstance(found, type) else found
        except Exception as error:
            raise UsageError(f"inspector {self.name}: {self.target}: {type(error).__name__}: {error}. Name a function in a module "
                             "that Python finds from here or in PYTHONPATH.") from error
        if not callable(made):
            raise UsageError(f"inspector {self.name}: {self.target} cannot be called. Name a function or a class.")
        if self.options and not isinstance(found, type):
            raise UsageError(f"inspector {self.name}: {self.target} is a function, which takes no options; "
                             f"take {next(iter(self.options))}= away, or write a class.")
        return made


def read(name, text, policy="open"):
    """Return the Wanted of one entry; ``policy`` where it does not say. Raises ConfigError."""
    target, *rest = (part.strip() for part in text.split(","))
    if not target.partition(":")[0] or not target.partition(":")[2]:
        raise ConfigError(f"inspector {name}: {target!r} will not do: {_MEND}.")
    processes, options = 1, {}
    for part in rest:
        key, equals, value = part.partition("=")
        if part in ("open", "closed"):
            policy = part
        elif key == "processes" and value.isdecimal() and 1 <= int(value) <= 64:
            processes = int(value)
        elif equals and key.isidentifier() and key != "processes":
            options[key] = value
        else:
            raise ConfigError(f"inspector {name}: {part!r} will not do: write open, closed, processes=1 to 64, or OPTION=VALUE.")
    return Wanted(name, target, policy, processes, options)


def read_all(table, policy="open"):
    """Return the Wanted of each entry of ``table`` (name: text), in order. Raises ConfigError."""
    if len(table) > MOST:
        raise ConfigError(f"{len(table)} inspectors are too many: start at most {MOST}.")
    return [read(name, text, policy) for name, text in table.items()]


def assignments(items):
    """Return the table of texts ``NAME=…`` of the command line. Raises ConfigError."""
    table = {}
    for item in items or ():
        name, equals, text = item.partition("=")
        if not equals or not name.replace("-", "_").isidentifier():
            raise ConfigError(f"--inspector {item}: {_MEND}.")
        table[name] = text
    return table
