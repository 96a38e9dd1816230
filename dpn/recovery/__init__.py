"""Getting bags back from other nodes: whom to ask, the request in our registry, the bag received and judged.

A request is a restore transfer of ours: we own it, the node that holds the bag accepts it and sets its link, we
fetch from there and say that we have it (see dpn.registry.rules.restores).
"""
