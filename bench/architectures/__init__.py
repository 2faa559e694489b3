"""The earlier parallel designs as engines over TigerFox's own parser and matcher, measured on equal terms.

See docs/architectures.md for what they are and what came out, ``designs.py`` for the table of them.
"""
