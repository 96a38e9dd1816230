"""Objects in named roots, folders or buckets: listed, read, written, removed, as streams, by one interface.

| module | holds |
| --- | --- |
| `keys` | which names an object may have |
"""
