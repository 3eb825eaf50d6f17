"""Tokens: the page where people agree, the exchange of codes with PKCE, refresh, expiry and revocation."""

import base64
import hashlib
import html
import urllib.parse
from dataclasses import dataclass

from tests.drive_emulator.answers import Refusal, Reply, Request, json_reply, unauthorized
from tests.drive_emulator.world import World

DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
CLIENT_ID = "1234567890-emulated.apps.googleusercontent.com"
CLIENT_SECRET = "emulated-not-confidential"  # desktop clients have no secret worth the name
_MOST_GRANTS = 100  # of one account to one client; one more displaces the oldest
_TESTING_SECONDS = 7 * 86_400


@dataclass(slots=True)
class Grant:
    """What a refresh token stands for."""

    email: str
    client: str
    scopes: str
    at: float
    dead: bool = False


@dataclass(slots=True)
class Access:
    """What an access token stands for."""

    email: str
    scopes: str
    until: float
    refresh: str


@dataclass(slots=True)
class Code:
    """What a code of the authorization page stands for; good once, for ten minutes."""

    email: str
    client: str
    redirect: str
    challenge: str
    plain: bool
    scopes: str
    at: float
    offline: bool


class OAuth:
    """Google's accounts, as far as programs see them. Used under the lock of the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.clients = {CLIENT_ID: CLIENT_SECRET}
        self.testing = False  # consent screen "Testing": refresh tokens live for a week, and say so
        self.grants: dict[str, Grant] = {}
        self.accesses: dict[str, Access] = {}
        self.codes: dict[str, Code] = {}

    # ---- tokens ----------------------------------------------------------------------------------------------------

    def grant(self, email: str, client: str = CLIENT_ID, scopes: str = DRIVE_SCOPE) -> str:
        """A new refresh token."""
        token = "1//0" + self._world.new_id() + self._world.new_id()
        self.grants[token] = Grant(email, client, scopes, self._world.clock.now())
        alive = [one for one in self.grants.values() if (one.email, one.client, one.dead) == (email, client, False)]
        for oldest in alive[:-_MOST_GRANTS]:
            oldest.dead = True
        return token

    def access(self, refresh: str, seconds: float | None = None) -> str:
        """A new access token of a grant."""
        grant = self.grants[refresh]
        life = seconds if seconds is not None else self._world.behaviour.token_seconds
        token = "ya29." + self._world.new_id() + self._world.new_id()
        self.accesses[token] = Access(grant.email, grant.scopes, self._world.clock.now() + life, refresh)
        return token

    def whose(self, request: Request) -> Access | None:
        """Who asks, None without a token. Raises Refusal 401 for a token that is no good."""
        given = request.headers.get("Authorization", "")
        token = given[7:] if given.lower().startswith("bearer ") else request.query.get("access_token", "")
        if not token:
            return None
        access = self.accesses.get(token)
        if access is None or access.until <= self._world.clock.now() or not self._alive(self.grants[access.refresh]):
            raise unauthorized()
        return access

    def _alive(self, grant: Grant) -> bool:
        late = self.testing and self._world.clock.now() - grant.at > _TESTING_SECONDS
        return not grant.dead and not late and not self._world.users[grant.email].gone

    def token(self, request: Request) -> Reply:
        """POST /token: a refresh token or a code against an access token."""
        form = dict(urllib.parse.parse_qsl(request.body.decode(errors="replace")))
        client, secret = form.get("client_id", ""), form.get("client_secret", "")
        basic = request.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            client, _, secret = base64.b64decode(basic[6:]).decode(errors="replace").partition(":")
        if client not in self.clients:
            return refused("invalid_client", "The OAuth client was not found.", 401)
        if secret != self.clients[client]:
            return refused("invalid_client", "Unauthorized", 401)
        kind = form.get("grant_type")
        if kind == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""), client)
        if kind == "authorization_code":
            return self._exchanged(form, client)
        return refused("unsupported_grant_type", f"Invalid grant_type: {kind}")

    def _refreshed(self, token: str, client: str) -> Reply:
        grant = self.grants.get(token)
        if grant is None or grant.client != client or not self._alive(grant):
            return refused("invalid_grant", "Token has been expired or revoked.")
        return json_reply(self._tokens(token))

    def _tokens(self, refresh: str) -> dict[str, object]:
        life = self._world.behaviour.token_seconds
        scopes = self.grants[refresh].scopes
        return {"access_token": self.access(refresh), "expires_in": int(life), "scope": scopes, "token_type": "Bearer"}

    def _exchanged(self, form: dict[str, str], client: str) -> Reply:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or code.client != client or self._world.clock.now() - code.at > 600:
            return refused("invalid_grant", "Malformed auth code.")
        if code.redirect != form.get("redirect_uri"):
            return refused("redirect_uri_mismatch", "Bad Request")
        verifier = form.get("code_verifier", "")
        hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if code.challenge and code.challenge != (verifier if code.plain else hashed):
            return refused("invalid_grant", "Invalid code verifier.")
        refresh = self.grant(code.email, client, code.scopes)
        answer = self._tokens(refresh)
        if code.offline:
            answer["refresh_token"] = refresh
        if self.testing:
            answer["refresh_token_expires_in"] = _TESTING_SECONDS
        return json_reply(answer)

    def revoke(self, request: Request) -> Reply:
        """POST /revoke with a token of either kind: the whole grant ends."""
        form = dict(urllib.parse.parse_qsl(request.body.decode(errors="replace")))
        token = form.get("token") or request.query.get("token", "")
        if token in self.accesses:
            token = self.accesses[token].refresh
        grant = self.grants.get(token)
        if grant is None or grant.dead:
            return refused("invalid_token", "Token expired or revoked")
        grant.dead = True
        return json_reply({})

    # ---- the page --------------------------------------------------------------------------------------------------

    def authorize(self, request: Request) -> Reply:
        """The page that asks; with `as=E-MAIL` (what its links add) or `deny=1` the answer of the person."""
        query = request.query
        redirect = query.get("redirect_uri", "")
        place = urllib.parse.urlsplit(redirect)
        if query.get("client_id") not in self.clients:
            return page(401, "Error 401: invalid_client", "The OAuth client was not found.")
        if place.scheme != "http" or place.hostname not in ("127.0.0.1", "localhost", "::1"):
            return page(400, "Error 400: redirect_uri_mismatch", "Desktop clients are sent to this machine only.")
        if query.get("response_type") != "code" or not query.get("scope"):
            return page(400, "Error 400: invalid_request", "response_type=code and a scope are wanted.")
        people = [user.email for user in self._world.users.values() if not user.gone]
        chosen = query.get("as")
        if chosen is None and not self._world.behaviour.login_shows_page:
            chosen = query.get("login_hint") or people[0]
        if query.get("deny"):
            return sent_back(redirect, {"error": "access_denied", "state": query.get("state", "")})
        if chosen not in people:
            return self._page(request, people)
        scopes = query.get("grant", query["scope"])  # people may untick some of what is asked for
        code = "4/0" + self._world.new_id()
        known = any((one.email, one.client) == (chosen, query["client_id"]) for one in self.grants.values())
        offline = query.get("access_type") == "offline" and (query.get("prompt") == "consent" or not known)
        self.codes[code] = Code(
            chosen,
            query["client_id"],
            redirect,
            query.get("code_challenge", ""),
            query.get("code_challenge_method", "plain") == "plain",
            scopes,
            self._world.clock.now(),
            offline,
        )
        return sent_back(redirect, {"state": query.get("state", ""), "code": code, "scope": scopes})

    def _page(self, request: Request, people: list[str]) -> Reply:
        here = request.path + "?" + urllib.parse.urlencode(request.query)
        lines = [f"<p>This program asks for: <code>{html.escape(request.query['scope'])}</code></p><ul>"]
        for email in people:
            link = html.escape(f"{here}&as={urllib.parse.quote(email)}")
            lines.append(f'<li><a href="{link}">Allow, as {html.escape(email)}</a></li>')
        lines.append(f'<li><a href="{html.escape(here)}&amp;deny=1">Deny</a></li></ul>')
        return page(200, "Sign in to the emulated Drive", "".join(lines), raw=True)


def refused(error: str, description: str, status: int = 400) -> Reply:
    """An error of the token endpoint."""
    return json_reply({"error": error, "error_description": description}, status)


def sent_back(redirect: str, answer: dict[str, str]) -> Reply:
    """Send the browser to where the program listens."""
    joint = "&" if urllib.parse.urlsplit(redirect).query else "?"
    return Reply(302, b"", {"Location": redirect + joint + urllib.parse.urlencode(answer)})


def page(status: int, title: str, text: str, raw: bool = False) -> Reply:
    """A page for people."""
    inside = text if raw else f"<p>{html.escape(text)}</p>"
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1>{inside}</body></html>\n"
    return Reply(status, body.encode(), {"Content-Type": "text/html; charset=UTF-8"})


def missing_login() -> Refusal:
    """No token at all."""
    message = (
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API."
    )
    return Refusal(403, "forbidden", message)
