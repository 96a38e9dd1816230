"""The cron job that pulls the other nodes' records."""
