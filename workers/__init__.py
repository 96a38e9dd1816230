"""What runs: one module a stage, the runner that all stages share, and the cron jobs."""
