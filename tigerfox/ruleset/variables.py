"""The variables of address and port expressions, and the sets they stand for.

Defaults are those of Suricata 7's own configuration (suricata.yaml, `vars`). A value `@FILE` reads an address list.
"""

from tigerfox.errors import UsageError
from tigerfox.ruleset.addresses import read_address, read_address_list
from tigerfox.ruleset.groups import Evaluator, Ready, nearest
from tigerfox.ruleset.ports import read_port
from tigerfox.ruleset.rule import PORT_LAST, V4_LAST, V6_LAST, AddressSet, PortSet, Refusal

DEFAULTS = {
    "HOME_NET": "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]",
    "EXTERNAL_NET": "!$HOME_NET",
    "HTTP_SERVERS": "$HOME_NET",
    "SMTP_SERVERS": "$HOME_NET",
    "SQL_SERVERS": "$HOME_NET",
    "DNS_SERVERS": "$HOME_NET",
    "TELNET_SERVERS": "$HOME_NET",
    "AIM_SERVERS": "$EXTERNAL_NET",
    "DC_SERVERS": "$HOME_NET",
    "DNP3_SERVER": "$HOME_NET",
    "DNP3_CLIENT": "$HOME_NET",
    "MODBUS_CLIENT": "$HOME_NET",
    "MODBUS_SERVER": "$HOME_NET",
    "ENIP_CLIENT": "$HOME_NET",
    "ENIP_SERVER": "$HOME_NET",
    "HTTP_PORTS": "80",
    "SHELLCODE_PORTS": "!80",
    "ORACLE_PORTS": "1521",
    "SSH_PORTS": "22",
    "DNP3_PORTS": "20000",
    "MODBUS_PORTS": "502",
    "FILE_DATA_PORTS": "[$HTTP_PORTS,110,143]",
    "FTP_PORTS": "21",
    "GENEVE_PORTS": "6081",
    "VXLAN_PORTS": "4789",
    "TEREDO_PORTS": "3544",
}


class Variables:
    """Values by name, and a cache: equal expressions and equal sets share one object.

    ``values`` maps names (without `$`) to texts and goes over the defaults. ``inspectors``: the names that `inspect:` may say,
    None for any.
    """

    def __init__(self, values=None, inspectors=None):
        self.inspectors = inspectors
        self.values = DEFAULTS | dict(values or {})
        self._lists = {}
        self._sets = {}
        self._cache = {}
        self._addresses = Evaluator("address", (V4_LAST, V6_LAST), read_address, self.lookup)
        self._ports = Evaluator("port", (PORT_LAST,), read_port, self.lookup)

    @classmethod
    def from_options(cls, options):
        """Build from texts `NAME=VALUE` of the command line; raises UsageError for one without a name or a value."""
        values = {}
        for option in options or ():
            name, equals, value = option.partition("=")
            name = name.strip().removeprefix("$")
            if not equals or not name or not value.strip():
                raise UsageError(f"--var {option}: write --var NAME=VALUE, e.g. --var 'HOME_NET=[10.0.0.0/8]' "
                                 "or --var BAD=@list.txt")
            values[name] = value.strip()
        return cls(values)

    def lookup(self, name):
        """Return the text of a variable, or the content of its list file; raises Refusal."""
        value = self.values.get(name)
        if value is None:
            close = nearest(name, self.values)
            raise Refusal(f"${name} is not defined{close}; define it with --var {name}=VALUE",
                          kind="undefined variable")
        if value.startswith("@"):
            return self._list(value[1:])
        return value

    def faults_unasked(self):
        """Yield (name, Refusal) for each variable whose list file has a fault that no rule has met yet."""
        for name, value in self.values.items():
            if value.startswith("@") and value[1:] not in self._lists:
                try:
                    self.lookup(name)
                except Refusal as refusal:
                    yield name, refusal

    def addresses(self, text):
        """Return the AddressSet of an expression; raises Refusal with the offset in it."""
        return self._cached(self._addresses, AddressSet, text)

    def ports(self, text):
        """Return the PortSet of an expression; raises Refusal with the offset in it."""
        return self._cached(self._ports, PortSet, text)

    def shared(self, made):
        """Return the one object that stands for all sets of this value."""
        return self._sets.setdefault(made, made)

    def _list(self, path):
        if path not in self._lists:
            try:
                self._lists[path] = Ready(read_address_list(path))
            except Refusal as refusal:
                self._lists[path] = refusal
        if isinstance(self._lists[path], Refusal):
            raise self._lists[path]
        return self._lists[path]

    def _cached(self, evaluator, kind, text):
        key = kind, text
        if key not in self._cache:
            try:
                self._cache[key] = self.shared(kind(*evaluator.evaluate(text)))
            except Refusal as refusal:
                self._cache[key] = refusal
        found = self._cache[key]
        if isinstance(found, Refusal):
            raise found
        return found
