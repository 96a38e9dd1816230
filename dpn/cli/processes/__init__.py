"""What runs a node's processes: `dpn node`, `dpn cron` and the jobs of cron's."""
