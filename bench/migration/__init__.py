"""A filter as a NetfilterQueue script (script.py), and the same for TigerFox (filter.rules, longnames.py)."""
