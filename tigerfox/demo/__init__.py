"""``tigerfox demo``: client, firewall and server in network namespaces, allowed and hostile traffic, and what became of it."""
