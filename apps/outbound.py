"""Requests to addresses that people gave: never into the network that this server stands in.

A name is resolved once, every address it has is looked at, and the connection goes to one of those
that were looked at; so a name that resolves to something else a moment later (DNS rebinding) gains
nothing. Redirects are not followed, and proxies of the environment are not asked.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from apps.errors import N_, InvalidInput, TooLarge

KEPT_BYTES = 1000  # of the answer to a post
BLOCK = 1 << 16  # bytes
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: IPv4 addresses seen from IPv6
PORTS = {"http": 80, "https": 443}
AGENT = "Sightbox"
UNSAFE = frozenset(chr(code) for code in (*range(33), 127))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(InvalidInput):
    """Nothing is sent to this address."""

    code = "address_refused"


class Unanswered(InvalidInput):
    """The address did not give the answer that was needed."""

    code = "address_unanswered"


class Redirected(Unanswered):
    """What was asked for is elsewhere."""

    address = ""  # where: nobody has looked at it yet


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes  # its first KEPT_BYTES
    retry_after: str = ""  # that header, as it was sent


def fetch(
    url: str,
    *,
    most_bytes: int,
    timeout: float,
    allow_private: bool,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """What is at ``url``.

    Args:
        timeout: seconds for all of it, apart from the resolution of the name.
        allow_private: whether it may be an address of this machine or its networks.

    Raises:
        AddressRefused: not an http(s) address, or one that is not public.
        Unanswered: no connection, no answer in time, or one that is not 200.
        Redirected: this kind of Unanswered, with the address that was named instead.
        TooLarge: more than ``most_bytes`` bytes.
    """
    with _answer("GET", url, None, headers or {}, timeout, allow_private) as response:
        if response.status != http.client.OK:
            raise _refused(url, response)
        data = _read(response, most_bytes + 1)
    if len(data) > most_bytes:
        raise TooLarge(N_("The file at this address is larger than %(most)s bytes."),
                       most=most_bytes)  # fmt: skip
    return data


def _refused(url: str, response: http.client.HTTPResponse) -> Unanswered:
    text = N_("“%(host)s” answered with status %(status)s instead of the file.")
    about = {"host": _host(url), "status": response.status}
    where = response.headers.get("Location", "")
    if not where or not 300 <= response.status < 400:
        return Unanswered(text, **about)
    moved = Redirected(text, **about)
    try:
        moved.address = urljoin(url, where)
    except ValueError:  # no address, which nobody can be sent to
        return Unanswered(text, **about)
    return moved


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, allow_private: bool
) -> Answer:
    """Send ``body`` to ``url``; whatever status comes back is an answer.

    Args and Raises as ``fetch``, without TooLarge: only the first bytes of the answer are read.
    """
    with _answer("POST", url, body, headers, timeout, allow_private) as response:
        data = _read(response, KEPT_BYTES)
        return Answer(response.status, data, response.headers.get("Retry-After", ""))


def require_address(url: str) -> SplitResult:
    """The parts of an http(s) address that can be asked; who is behind it is not looked at yet.

    Raises:
        AddressRefused: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
    except (ValueError, UnicodeError):  # a port that is no number, brackets, an endless label
        host, port = "", None
    if not host or parts.scheme not in PORTS or port == 0 or not UNSAFE.isdisjoint(url):
        raise AddressRefused(
            N_("Give a whole address that begins with http:// or https://, without spaces.")
        )
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(N_("An address must not hold a user name or a password."))
    return parts


def is_public(address: Address) -> bool:
    """Whether ``address`` is one of the Internet, and none that leads back into a network here."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False  # fec0::/10, which no list of private networks names any more
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _inner(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Every address of ``host``, all of which may be asked.

    Raises:
        AddressRefused: one of them is not public.
        Unanswered: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unanswered(N_("There is no server called “%(host)s”."), host=host) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if address.is_multicast or address.is_unspecified:
            raise _not_public(host)
        if not allow_private and not is_public(address):
            raise _not_public(host)
    return addresses


def _not_public(host: str) -> AddressRefused:
    return AddressRefused(
        N_(
            "“%(host)s” is an address inside this server’s network. "
            "An administrator can allow those with the setting OUTBOUND_PRIVATE."
        ),
        host=host,
    )


class _Connection(http.client.HTTPConnection):
    """To an address that was looked at, under the name it was found by; ended at a deadline."""

    def __init__(self, parts: SplitResult, addresses: list[str], timeout: float) -> None:
        name = (parts.hostname or "").encode("idna").decode()
        super().__init__(name, parts.port or PORTS[parts.scheme], timeout=timeout)
        self.default_port = PORTS[parts.scheme]  # which the header Host then leaves out
        self._addresses = addresses
        self._secure = parts.scheme == "https"
        self._ends = time.monotonic() + timeout
        self._line: socket.socket | None = None
        # A timeout of a socket begins again with each byte; this one does not.
        self._watch = threading.Timer(timeout, self._hang_up)
        self._watch.daemon = True

    def connect(self) -> None:
        """To the first of the addresses that answers."""
        self._watch.start()
        line = self._first()
        self._line = line.dup()
        self.sock = line
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(line, server_hostname=self.host)

    def _first(self) -> socket.socket:
        last = OSError("no address")
        for address in self._addresses:
            left = self._ends - time.monotonic()
            if left <= 0:
                break
            try:
                return socket.create_connection((address, self.port), left)
            except OSError as error:
                last = error
        raise last

    def _hang_up(self) -> None:
        if self._line is not None:
            try:
                self._line.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is closed already
                return

    def close(self) -> None:
        """Again is no error."""
        self._watch.cancel()
        super().close()
        if self._line is not None:
            self._line.close()


@contextmanager
def _answer(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout: float,
    allow_private: bool,
) -> Iterator[http.client.HTTPResponse]:
    parts = require_address(url)
    host = parts.hostname or ""
    port = parts.port or PORTS[parts.scheme]
    addresses = resolve(host, port, allow_private=allow_private)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    connection = _Connection(parts, addresses, timeout)
    try:
        connection.request(method, target, body, {"User-Agent": AGENT, **headers})
        # With "Connection: close" the line is the response's, and open until all of it is read.
        with connection.getresponse() as response:
            yield response
    except ssl.SSLCertVerificationError as error:
        raise Unanswered(
            N_("The certificate of “%(host)s” is not good: %(reason)s."),
            host=host,
            reason=error.verify_message,
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(N_("“%(host)s” did not answer."), host=host) from error
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    """The first ``most`` bytes of an answer."""
    parts: list[bytes] = []
    while most > 0 and (part := response.read(min(BLOCK, most))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
