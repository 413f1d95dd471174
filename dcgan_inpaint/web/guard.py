"""What stands before the page: who may see it, and how much they may send.

It knows the protocol of web servers in Python (ASGI), and nothing of the page.
"""

from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import MutableMapping
import hmac
from http import cookies
from typing import Any
from typing import TypeAlias
import urllib.parse

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "dcgan_inpaint_token"
# A browser fetches nothing from elsewhere, and shows the page in no other.
_POLICY = (
  "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src "
  "'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
  "object-src 'none'; base-uri 'self'; form-action 'self'; "
  "frame-ancestors 'none'"
)
_HEADERS = (
  (b"content-security-policy", _POLICY.encode()),
  (b"x-content-type-options", b"nosniff"),
  (b"referrer-policy", b"no-referrer"),
)


class Guard:
  """Lets the requests through that may be served."""

  def __init__(
    self,
    app: App,
    *,
    token: str,
    hosts: Collection[str],
    paths: Collection[str],
    max_bytes: int,
  ):
    """Guards an application.

    Args:
      app: what serves the requests that are let through.
      token: that a browser must send; '' asks for none.
      hosts: names that the page may be asked for by, where there is no token:
        another page could otherwise bring its own name to this address.
      paths: what the paths of requests may start with; '/' alone is the page.
      max_bytes: the most that a request may send.
    """
    self._app, self._token = app, token
    self._hosts, self._paths = frozenset(hosts), tuple(paths)
    self._max_bytes = max_bytes

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves a request, as ASGI has it."""
    if scope["type"] == "lifespan":
      await self._app(scope, receive, send)
      return
    if scope["type"] != "http":
      return  # The page uses no WebSockets; the server closes it.
    headers = {name.lower(): value for name, value in scope["headers"]}
    if entry := self._entry(scope):
      await _answer(send, 303, "", entry)
    elif refusal := self._refusal(scope, headers):
      await _answer(send, *refusal)
    else:
      await self._app(scope, self._limited(receive), _marked(scope, send))

  def _entry(self, scope: Scope) -> list[tuple[bytes, bytes]]:
    """Returns the headers that let in a browser whose address has the token."""
    query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))
    given = query.get("token", [""])[0]
    if scope["path"] != "/" or not self._is_token(given):
      return []
    cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Lax"
    # The token leaves the address, so that it is in no history and no log.
    return [(b"location", b"/"), (b"set-cookie", cookie.encode())]

  def _is_token(self, given: str) -> bool:
    if not self._token:
      return False
    return hmac.compare_digest(given.encode(), self._token.encode())

  def _refusal(
    self, scope: Scope, headers: dict[bytes, bytes]
  ) -> tuple[int, str] | None:
    """Returns the status and a line for a request that is not served."""
    host = headers.get(b"host", b"").decode("latin-1")
    if self._token:
      if not self._is_token(_cookie(headers.get(b"cookie", b""))):
        return 403, "open the address that dcgan-inpaint serve has printed"
    elif _split(f"//{host}").hostname not in self._hosts:
      return 403, "this page is served by the name localhost alone"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and _split(origin).netloc != host:
      return 403, "another page may not use this one"
    path = scope["path"]
    if path != "/" and not path.startswith(self._paths):
      return 404, "there is no such page"
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > self._max_bytes:
      return 413, f"at most {self._max_bytes:,} bytes are taken"
    return None

  def _limited(self, receive: Receive) -> Receive:
    """Returns what ends a request that sends more than it has announced."""
    left = self._max_bytes

    async def limited() -> Message:
      nonlocal left
      message = await receive()
      left -= len(message.get("body", b""))
      return message if left >= 0 else {"type": "http.disconnect"}

    return limited


def _split(address: str) -> urllib.parse.SplitResult:
  """Returns the parts of an address; none of one that is broken."""
  try:
    return urllib.parse.urlsplit(address)
  except ValueError:
    return urllib.parse.urlsplit("")


def _cookie(header: bytes) -> str:
  """Returns the token that a browser has sent, or ''."""
  try:
    found = cookies.SimpleCookie(header.decode("latin-1")).get(COOKIE)
  except cookies.CookieError:
    return ""
  return found.value if found else ""


def _marked(scope: Scope, send: Send) -> Send:
  """Returns what adds the headers that keep a browser from other places."""
  own = [*_HEADERS]
  if "/file=" in scope["path"]:  # Somebody's photograph.
    own.append((b"cache-control", b"private, no-store"))

  async def marked(message: Message) -> None:
    if message["type"] == "http.response.start":
      ours = {name for name, _ in own}
      kept = [x for x in message["headers"] if x[0].lower() not in ours]
      message = {**message, "headers": [*kept, *own]}
    await send(message)

  return marked


async def _answer(
  send: Send, status: int, line: str, headers: Collection = ()
) -> None:
  """Answers a request with a line."""
  kind = (b"content-type", b"text/plain; charset=utf-8")
  everything = [kind, (b"cache-control", b"no-store"), *_HEADERS, *headers]
  await send(
    {"type": "http.response.start", "status": status, "headers": everything}
  )
  await send({"type": "http.response.body", "body": line.encode()})
