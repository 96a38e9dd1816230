"""Logs, metrics and readiness: how operators and their tools see what a process does."""
