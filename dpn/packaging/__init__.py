"""Packaging: a deposit's source (a folder, a bag, an S3 prefix) becomes a valid DPN bag in a tar.

Uses dpn.bags alone: it knows of no registry, no work items and no stores.
"""
