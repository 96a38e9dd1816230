"""Objects in named roots, folders or buckets: listed, read, written, removed, as streams, by one interface.

| module | holds |
| --- | --- |
| `keys` | which names an object may have |
| `root` | what every root promises (`Root`), and how it fails |
| `roots` | `open_root`: which root the settings name |
| `settings` | the `[roots.…]` tables |
| `bandwidth` | how fast a root may be used at a moment |
| `content` | an object's bytes on their way: counted, digested, held to what is expected |
| `folder` | a root that is a folder |
| `s3` | a root that is a bucket, or what lies under a prefix in one |

It knows nothing of jobs: what is copied from where to where, how often it is tried, and what is told of it.
"""
