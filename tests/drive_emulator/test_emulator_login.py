"""Logins: the page, codes with PKCE, refresh, expiry, revocation, and the transport with a certificate."""

import os
import urllib.parse
import warnings

import httplib2
import pytest
from google.auth.exceptions import RefreshError
from google_auth_httplib2 import AuthorizedHttp
from google_auth_oauthlib.flow import Flow

from tests.drive_emulator import DRIVE_SCOPE, Emulator, VirtualClock, html, refusal
from tests.drive_emulator.conftest import ANNA, BEN
from tests.drive_emulator.real_client import GoogleClient

HOME = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def plain_http_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def visit(url: str) -> tuple[int, str]:
    """Open a page as a browser would; the address one is sent to, or its text."""
    http = httplib2.Http()
    http.follow_redirects = False
    reply, body = http.request(url)
    http.close()
    return reply.status, reply.get("location") or body.decode()


def begin(emulator: Emulator) -> tuple[Flow, str]:
    flow = Flow.from_client_config(emulator.client_config(), [DRIVE_SCOPE], redirect_uri=HOME)
    return flow, flow.authorization_url(prompt="consent", access_type="offline")[0]


def answered(url: str, **more: str) -> dict[str, str]:
    """What the redirect carries after somebody has answered."""
    status, place = visit(url + "&" + urllib.parse.urlencode(more))
    assert status == 302
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(place).query))


def test_a_login_from_the_page_to_the_first_call(emulator: Emulator) -> None:
    flow, url = begin(emulator)
    status, page = visit(url)
    assert status == 200
    assert ANNA in page
    assert BEN in page
    told = answered(url, **{"as": BEN})
    flow.fetch_token(code=told["code"])
    assert flow.credentials.refresh_token
    http = AuthorizedHttp(flow.credentials, http=httplib2.Http())
    _, body = http.request(emulator.url + "/drive/v3/about?fields=user")
    assert BEN.encode() in body
    flow.oauth2session.close()
    http.http.close()


def test_a_code_is_good_once_for_its_verifier_and_for_ten_minutes(emulator: Emulator, clock: VirtualClock) -> None:
    flow, url = begin(emulator)
    code = answered(url, **{"as": ANNA})["code"]
    other, _ = begin(emulator)
    with pytest.raises(Exception, match="code verifier"):
        other.fetch_token(code=code)
    with pytest.raises(Exception, match="auth code"):
        flow.fetch_token(code=code)  # used up by the wrong one
    late = answered(url, **{"as": ANNA})["code"]
    clock.advance(601)
    with pytest.raises(Exception, match="auth code"):
        flow.fetch_token(code=late)
    for one in (flow, other):
        one.oauth2session.close()


def test_the_page_refuses_foreign_clients_and_addresses(emulator: Emulator) -> None:
    _, url = begin(emulator)
    assert visit(url.replace("client_id=", "client_id=x"))[0] == 401
    assert visit(url.replace("127.0.0.1%3A1", "evil.example.org"))[0] == 400
    assert answered(url, deny="1")["error"] == "access_denied"


def test_people_may_untick_a_scope(emulator: Emulator) -> None:
    flow, url = begin(emulator)
    told = answered(url, **{"as": ANNA}, grant="openid")
    os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
    try:
        flow.fetch_token(code=told["code"])
    finally:
        del os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"]
    http = AuthorizedHttp(flow.credentials, http=httplib2.Http())
    reply, body = http.request(emulator.url + "/drive/v3/about?fields=user")
    assert (reply.status, b"insufficientPermissions" in body) == (403, True)
    flow.oauth2session.close()
    http.http.close()


def test_an_expired_token_is_renewed_without_a_word(emulator: Emulator, anna: GoogleClient) -> None:
    emulator.expire_tokens(ANNA)
    anna.mint(1)
    assert [one.status for one in emulator.requests()] == [401, 200, 200]
    assert emulator.count("token") == 1


def test_a_revoked_login_ends_with_invalid_grant(emulator: Emulator, anna: GoogleClient) -> None:
    emulator.revoke(ANNA)
    with pytest.raises(RefreshError, match="invalid_grant"):
        anna.mint(1)


def test_revoking_as_logout_does(emulator: Emulator, anna: GoogleClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urllib.parse.urlencode({"token": anna.credentials.refresh_token})
    assert anna.http.request(emulator.url + "/revoke", "POST", body, form)[0].status == 200
    assert anna.http.request(emulator.url + "/revoke", "POST", body, form)[0].status == 400
    with pytest.raises(RefreshError):
        anna.mint(1)


def test_a_token_host_that_is_down(emulator: Emulator, anna: GoogleClient) -> None:
    emulator.expire_tokens(ANNA)
    emulator.fail(refusal(503, "backendError"), "token", times=None)
    with pytest.raises(RefreshError) as caught:
        anna.mint(1)
    assert caught.value.retryable
    emulator.heal()
    emulator.fail(html(502), "token", times=None)
    with pytest.raises(RefreshError):
        anna.mint(1)


def test_no_token_and_a_token_for_something_else(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    anna.api.files()
    assert anna.http.request(f"{emulator.url}/drive/v3/files/{folder}")[0].status == 403
    narrow = {"Authorization": f"Bearer {emulator.limited_token(ANNA, 'openid')}"}
    reply, body = anna.http.request(f"{emulator.url}/drive/v3/files/{folder}", headers=narrow)
    assert (reply.status, b"insufficientPermissions" in body) == (403, True)


def test_in_testing_refresh_tokens_live_for_a_week(emulator: Emulator, clock: VirtualClock) -> None:
    emulator.service.oauth.testing = True
    flow, url = begin(emulator)
    flow.fetch_token(code=answered(url, **{"as": ANNA})["code"])
    assert flow.oauth2session.token["refresh_token_expires_in"] == 7 * 86_400
    credentials = flow.credentials
    clock.advance(7 * 86_400 + 1)
    http = AuthorizedHttp(credentials, http=httplib2.Http())
    with pytest.raises(RefreshError, match="invalid_grant"):
        http.request(emulator.url + "/drive/v3/about?fields=user")
    flow.oauth2session.close()
    http.http.close()


def test_the_hundred_and_first_login_ends_the_first(emulator: Emulator) -> None:
    oauth = emulator.service.oauth
    first = emulator.credentials(BEN)["refresh_token"]
    for _ in range(99):
        oauth.grant(BEN)
    assert not oauth.grants[first].dead
    oauth.grant(BEN)
    assert oauth.grants[first].dead


def test_only_who_asks_for_consent_gets_a_second_refresh_token(emulator: Emulator) -> None:
    flow = Flow.from_client_config(emulator.client_config(), [DRIVE_SCOPE], redirect_uri=HOME)
    url = flow.authorization_url(access_type="offline")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow.fetch_token(code=answered(url, **{"as": ANNA})["code"])
    assert flow.credentials.refresh_token is None  # Anna had agreed before
    flow.oauth2session.close()


def test_tls_by_a_throw_away_authority() -> None:
    with Emulator(secure=True) as emulator:
        emulator.user(ANNA)
        with GoogleClient(emulator, ANNA) as anna:
            anna.http.ca_certs = str(emulator.authority)
            folder = emulator.folder(ANNA, "vault")
            made = anna.create(folder, "a", bytes(100_000))["id"]
            assert anna.read(made) == bytes(100_000)
        with GoogleClient(emulator, ANNA) as stranger, pytest.raises(OSError, match="certificate"):
            stranger.mint(1)
