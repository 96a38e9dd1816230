"""Keeps the processes of a node running on one machine: starts them, restarts what ends, runs cron's jobs, stops.

It knows programs and times; which of them make up a node is the command line's to say (`dpn.cli.processes.node`).
"""
