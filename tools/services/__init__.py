"""Real servers for tests and demo, on free loopback ports, all they own under one folder.

`bin/services up|down|status --dir DIR [NAME …]` is the way in; `DIR/services.json` holds every address.
"""
