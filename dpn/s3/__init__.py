"""Servers that speak S3."""
