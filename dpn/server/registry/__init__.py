"""The registry as other nodes see it (DPN REST API v2), and the records they may write."""
