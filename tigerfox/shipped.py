"""Where the files are that come with the program: rules and shell scripts.

In a checkout they lie beside the package. An installation puts them below share/tigerfox of the prefix it went to,
which is not always ``sys.prefix``: Debian's pip installs below /usr/local, ``pip install --user`` below ~/.local,
``pip install --target`` into the folder itself.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tigerfox.errors import TigerFoxError, UsageError

_PACKAGE = Path(__file__).resolve().parent
_IN_CHECKOUT = {"iptables": Path("scripts", "iptables"), "rules": Path("rules")}


def folder(name, wanted):
    """Return the shipped folder ``name`` ("iptables" or "rules"), which has the file ``wanted``.

    Raises TigerFoxError, naming the places looked at.
    """
    places = [_PACKAGE.parent / _IN_CHECKOUT[name]]
    places += [prefix / "share" / "tigerfox" / name for prefix in _prefixes()]
    for place in places:
        if (place / wanted).is_file():
            return place
    raise TigerFoxError(f"{wanted} is in none of {', '.join(map(str, places))}. Install tigerfox again.")


def bench(names):
    """Run benches of the checkout to their end; the exit code. Raises UsageError where there is no checkout."""
    if not (_PACKAGE.parent / "bench" / "__main__.py").is_file():
        raise UsageError("benches are not part of the installed package. Run `make bench` in a checkout.")
    return subprocess.run([sys.executable, "-m", "bench", *names], cwd=_PACKAGE.parent, check=False).returncode


def _prefixes():
    """Return the prefixes that this very package can have been installed to: those of the schemes with its folder."""
    found = [_PACKAGE.parent]
    for scheme in sysconfig.get_scheme_names():
        if _PACKAGE.parent == Path(sysconfig.get_path("platlib", scheme)).resolve():
            found.append(Path(sysconfig.get_path("data", scheme)))
    return list(dict.fromkeys(found))
