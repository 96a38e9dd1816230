"""A small network of preservation nodes on one machine that really replicate bags to each other.

`tools.network.cluster.Cluster` is the network; `python -m tools.demo` (bin/demo) deposits bags in it and watches.
"""
