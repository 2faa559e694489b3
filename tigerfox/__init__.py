"""TigerFox: an inline firewall and intrusion prevention system for Linux gateways."""

from tigerfox._version import __version__

__all__ = ["__version__"]
