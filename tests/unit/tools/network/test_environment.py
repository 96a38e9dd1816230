"""Whoever starts a network does not steer its nodes by accident."""

from __future__ import annotations

from tools.network.environment import clean_environment
from tools.services.ports import free_ports, is_free


def test_nothing_in_our_environment_steers_a_node() -> None:
    hostile = {"DPN_STORE__URL": "x", "AWS_PROFILE": "x", "http_proxy": "x", "HTTPS_PROXY": "x", "RSYNC_RSH": "x"}
    kept = clean_environment({"PATH": "/bin", "HOME": "/home/me", **hostile})
    assert not hostile.keys() & kept.keys()
    assert kept["PATH"] == "/bin"
    assert kept["HOME"] == "/home/me"


def test_free_ports_are_free_and_all_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)
