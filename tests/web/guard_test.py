import asyncio

import pytest

from dcgan_inpaint.web import guard

TOKEN = "a-token-of-some-length"


async def page(scope, receive, send):
  """Answers with as many bytes as it was sent."""
  count, more = 0, True
  while more:
    message = await receive()
    if message["type"] == "http.disconnect":
      return
    count += len(message.get("body", b""))
    more = message.get("more_body", False)
  headers = [(b"content-type", b"text/plain"), (b"cache-control", b"public")]
  await send({"type": "http.response.start", "status": 200, "headers": headers})
  await send({"type": "http.response.body", "body": str(count).encode()})


def ask(path="/", *, token="", body=(), **headers):
  """Returns the status, the headers and the body of an answer; None: none."""
  guarded = guard.Guard(
    page,
    token=token,
    hosts=("localhost", "127.0.0.1", "::1"),
    paths=("/assets/", "/gradio_api/file=/ours/"),
    max_bytes=100,
  )
  path, _, query = path.partition("?")
  given = {"host": "localhost:7860", **headers}
  scope = {
    "type": "http",
    "path": path,
    "query_string": query.encode(),
    "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
  }
  incoming = [
    {"type": "http.request", "body": part, "more_body": True} for part in body
  ] + [{"type": "http.request", "body": b""}]
  sent = []

  async def receive():
    return incoming.pop(0)

  async def send(message):
    sent.append(message)

  asyncio.run(guarded(scope, receive, send))
  if not sent:
    return None
  start, end = sent
  return start["status"], dict(start["headers"]), end["body"].decode()


@pytest.mark.parametrize(
  "host", ["localhost", "localhost:8000", "127.0.0.1:7860", "[::1]:7860"]
)
def test_the_page_is_served_by_the_names_of_this_machine(host):
  assert ask(host=host)[0] == 200


@pytest.mark.parametrize(
  "host", ["evil.example", "localhost.evil.example:7860", "10.0.0.1", "", "[::"]
)
def test_another_name_is_refused(host):
  status, _, line = ask(host=host)
  assert status == 403 and "localhost" in line


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://["])
def test_another_page_may_not_use_this_one(origin):
  assert ask(origin=origin)[0] == 403
  assert ask(origin="http://localhost:7860")[0] == 200


def test_a_token_is_taken_from_the_address_into_a_cookie():
  status, headers, _ = ask(f"/?token={TOKEN}", token=TOKEN, host="10.0.0.1")
  assert status == 303 and headers[b"location"] == b"/"
  cookie = headers[b"set-cookie"].decode()
  assert "HttpOnly" in cookie and "SameSite" in cookie
  held = cookie.partition(";")[0]
  assert ask(token=TOKEN, host="10.0.0.1", cookie=f"x=1; {held}")[0] == 200


@pytest.mark.parametrize(
  "path, cookie",
  [
    ("/", ""),
    ("/?token=", ""),
    ("/?token=wrong", ""),
    ("/?token=%ff%00", ""),
    (f"/assets/a.js?token={TOKEN}", ""),
    ("/", f"{guard.COOKIE}=wrong"),
    ("/", f"{guard.COOKIE}="),
    ("/", f"{guard.COOKIE}={TOKEN}x"),
    ("/", f"other={TOKEN}"),
    ("/", "\xff; =;;"),
  ],
)
def test_without_the_token_nothing_is_served(path, cookie):
  status, _, line = ask(path, token=TOKEN, cookie=cookie)
  assert status == 403 and TOKEN not in line


def test_an_empty_token_lets_nobody_in_by_itself():
  assert ask("/?token=", host="evil.example")[0] == 403


@pytest.mark.parametrize(
  "path, status",
  [
    ("/assets/index.js", 200),
    ("/gradio_api/file=/ours/a.png", 200),
    ("/gradio_api/file=http://elsewhere.example/a.png", 404),
    ("/gradio_api/file=/etc/passwd", 404),
    ("/gradio_api/proxy=http://elsewhere.example", 404),
    ("/monitoring", 404),
    ("/login", 404),
  ],
)
def test_only_what_the_page_needs_is_served(path, status):
  assert ask(path)[0] == status


def test_a_request_is_limited_in_bytes():
  assert ask(body=[b"x" * 60, b"x" * 40])[2] == "100"
  # It announces less than it sends, or nothing at all.
  assert ask(body=[b"x" * 60, b"x" * 41]) is None
  for length in ("101", "-1", "many"):
    assert ask(**{"content-length": length})[0] == 413


def test_a_browser_is_kept_from_other_places():
  for answer in (ask(), ask(host="evil.example")):
    policy = answer[1][b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "http" not in policy
    assert answer[1][b"referrer-policy"] == b"no-referrer"
  # Photographs are in no cache.
  assert ask()[1][b"cache-control"] == b"public"
  private = ask("/gradio_api/file=/ours/a.png")[1][b"cache-control"]
  assert b"no-store" in private
