"""Application parsers: compiled, incremental, each a stage of its own."""
