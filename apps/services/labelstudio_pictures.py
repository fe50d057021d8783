"""Pictures that a Label Studio names in its tasks, fetched as its own SDK does."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from apps import outbound
from apps.errors import N_, InvalidInput

SECONDS = 15.0  # for one picture to come
CLOUDS = ("s3://", "gs://", "azure-blob://")


@dataclass(frozen=True)
class Studio:
    """A Label Studio, and what is let out by it for a while."""

    host: str  # where people open it, without a slash at the end
    headers: Mapping[str, str]  # which let pictures out; for this server alone
    inside: bool  # whether it may be in this network
    others_inside: bool  # whether any other server may be

    def picture(self, address: str, task: object, most_bytes: int) -> bytes:
        """The file at ``address`` as a task names it.

        Args:
            task: its number, which opens the cloud storage of its project.

        Raises:
            AppError: as outbound.fetch.
        """
        ends = time.monotonic() + SECONDS
        url = self._url(address, task)
        try:
            return self._fetch(url, SECONDS, most_bytes)
        except outbound.Redirected as moved:  # to where a cloud keeps it
            if not self._is_home(url):
                raise
            self._refuse_itself(url, moved.address)
            left = max(ends - time.monotonic(), 1)
            return self._fetch(moved.address, left, most_bytes)

    def _url(self, address: str, task: object) -> str:
        if address.startswith(CLOUDS) and isinstance(task, int):
            # TaskResolveStorageUri of Label Studio (io_storages/proxy_api.py).
            name = quote(base64.urlsafe_b64encode(address.encode()).decode())
            return f"{self.host}/tasks/{task}/presign/?fileuri={name}"
        if not address.startswith("/") or address.startswith("//"):
            return address
        below = urlsplit(self.host).path  # a Label Studio below a path names it itself
        host = self.host.removesuffix(below) if address.startswith(f"{below}/") else self.host
        return host + address

    def _fetch(self, url: str, seconds: float, most_bytes: int) -> bytes:
        """The token goes to the registered server alone."""
        home = self._is_home(url)
        return outbound.fetch(
            url,
            most_bytes=most_bytes,
            timeout=seconds,
            allow_private=self.inside if home else self.others_inside,
            headers=self.headers if home else {},
        )

    def _refuse_itself(self, url: str, address: str) -> None:
        """Raises InvalidInput for the same by another way, https mostly, that no token goes to."""
        mine, other = _origin(url), _origin(address)
        if not self.headers or not mine or not other or mine == other or mine[1] != other[1]:
            return
        if urlsplit(url).path == urlsplit(address).path:  # else a storage on the same machine
            raise InvalidInput(
                N_("Label Studio sends on to %(address)s. Connect it with that address."),
                address=f"{other[0]}://{urlsplit(address).netloc}{urlsplit(self.host).path}",
            )

    def _is_home(self, url: str) -> bool:
        return _origin(url) == _origin(self.host)


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or outbound.PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.scheme, (parts.hostname or "").casefold(), port)
