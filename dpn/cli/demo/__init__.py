"""A small network of preservation nodes on one machine that really replicate bags to each other.

`dpn.cli.demo.cluster.Cluster` is the network; `python -m dpn.cli.demo` (bin/demo) deposits bags in it and watches.
"""
