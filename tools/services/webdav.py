"""webdav: rclone serves a folder that may be read and written, behind a password."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tools.services.process import Launch
from tools.services.programs import find_rclone
from tools.services.service import Home, Service, http_get

USER = "dpn"


class Webdav(Service):
    """A WebDAV server. `--set webdav.FLAG=VALUE` passes `--FLAG=VALUE`; its files lie in the entry's `root`."""

    name = "webdav"
    port_names = ("http",)

    def prepare(self, home: Home) -> Launch:
        flags = {
            "config": "",
            "addr": home.address("http"),
            "cache-dir": str(home.path / "cache"),
            "dir-cache-time": "0s",  # what a test puts into the folder is there at once
            **home.flags,
        }
        argv = [find_rclone(), "serve", "webdav", *(f"--{flag}={value}" for flag, value in flags.items())]
        return Launch(
            [*argv, str(home.folder("root"))], {"RCLONE_USER": USER, "RCLONE_PASS": home.secret("password")}
        )

    def entry(self, home: Home) -> dict[str, Any]:
        return {
            "url": f"http://{home.address('http')}/",
            "user": USER,
            "password": home.secret("password"),
            "root": str(home.path / "root"),
        }

    def check(self, entry: dict[str, Any]) -> None:
        """Lets us in and lists the folder."""
        credentials = b64encode(f"{entry['user']}:{entry['password']}".encode()).decode()
        http_get(entry["url"].removeprefix("http://").rstrip("/"), "/", {"Authorization": f"Basic {credentials}"})
