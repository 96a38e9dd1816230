"""The HTTP session that calls to a peer go over unless they are given another."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from dpn.http_bounds import bounded_pools
from dpn.registry.settings import RegistryAccess

USER_AGENT = "dpn-registry-client"


def peer_session(settings: RegistryAccess) -> requests.Session:
    """Nothing from the environment: no proxy, no netrc, no other CA bundle; no cookies; sockets that keep to the
    bounds of the running call."""
    session = _Session()
    session.trust_env = False
    session.verify = str(settings.ca_file) if settings.ca_file else True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"})
    adapter = _BoundedAdapter()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Session(requests.Session):
    """Leaves redirects to us altogether: requests would read and interpret them even when told not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _BoundedAdapter(HTTPAdapter):
    """requests' adapter, its connections bounded."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = bounded_pools(HTTPConnectionPool, HTTPSConnectionPool)
