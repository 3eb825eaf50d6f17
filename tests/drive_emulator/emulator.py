"""The object a test or a person holds: starts an emulated Drive, fills it, looks into it, and breaks it."""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.drive_emulator import tls
from tests.drive_emulator.answers import Request
from tests.drive_emulator.clock import Clock, RealClock
from tests.drive_emulator.faults import Fault, Rule
from tests.drive_emulator.items import FOLDER, Blob, Item, Permission
from tests.drive_emulator.oauth import CLIENT_ID, CLIENT_SECRET, DRIVE_SCOPE
from tests.drive_emulator.server import Server
from tests.drive_emulator.service import Record, Service
from tests.drive_emulator.settings import GiB, Settings


@dataclass(slots=True)
class _Login:
    refresh: str
    token: str


class Emulator:
    """A Google Drive of one's own, while inside `with`. See the docstring of this package."""

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        secure: bool = False,
    ) -> None:
        """Start at once. `port` 0 takes a free one; `secure` serves TLS, see `authority`; `seed` decides all chance."""
        self.settings = settings or Settings()
        self.clock: Clock = clock or RealClock()
        self.service = Service(self.settings, self.clock, seed)
        self.world = self.service.world
        self._logins: dict[str, _Login] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="drive-emulator-") if secure else None
        self.authority: Path | None = None
        context = None
        if self._folder is not None:
            context, self.authority = tls.make(Path(self._folder.name))
        self._server = Server((host, port), self.service, context)
        port = self._server.server_address[1]
        self.url = f"{'https' if secure else 'http'}://{host}:{port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="drive-emulator", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections and stop listening. May be called twice."""
        if self._thread.is_alive():
            self._server.end()
            self._thread.join()
            if self._folder is not None:
                self._folder.cleanup()

    # ---- accounts --------------------------------------------------------------------------------------------------

    def user(self, email: str, *, storage: int | None = 15 * GiB, name: str = "") -> str:
        """Make an account, if there is none of that address, and return an access token of it."""
        with self.world.lock:
            self.world.add_user(email, name, storage)
            if email not in self._logins:
                self._logins[email] = _Login(self.service.oauth.grant(email), "")
            login = self._logins[email]
            login.token = self.service.oauth.access(login.refresh)
            return login.token

    def credentials(self, email: str) -> dict[str, str]:
        """What a program keeps of a login, in the shape of Google's "authorized user" files.

        `token_uri` is this emulator's: build `google.oauth2.credentials.Credentials` from the parts.
        """
        token = self.user(email)
        return {
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self._logins[email].refresh,
            "token": token,
            "token_uri": self.url + "/token",
        }

    def client_config(self) -> dict[str, dict[str, object]]:
        """The client secret file of a desktop program, with this emulator's addresses."""
        return {
            "installed": {
                "client_id": CLIENT_ID,
                "project_id": "emulated",
                "auth_uri": self.url + "/o/oauth2/auth",
                "token_uri": self.url + "/token",
                "revoke_uri": self.url + "/revoke",
                "client_secret": CLIENT_SECRET,
                "redirect_uris": ["http://localhost"],
                "api_endpoint": self.url,  # cryptfs takes the address of the API from here; Google's library does not
            }
        }

    def limited_token(self, email: str, scopes: str) -> str:
        """An access token for other scopes than Drive's."""
        with self.world.lock:
            return self.service.oauth.access(self.service.oauth.grant(email, scopes=scopes))

    def expire_tokens(self, email: str | None = None) -> None:
        """Every access token (of one account) is late from now on; refreshing works."""
        with self.world.lock:
            for access in self.service.oauth.accesses.values():
                if email in (None, access.email):
                    access.until = 0.0

    def revoke(self, email: str) -> None:
        """The account takes back every login: 401, and `invalid_grant` on refresh."""
        with self.world.lock:
            for grant in self.service.oauth.grants.values():
                grant.dead = grant.dead or grant.email == email
            self._logins.pop(email, None)

    def remove_user(self, email: str) -> None:
        """Delete the account with all it owns."""
        with self.world.lock:
            self.world.remove_user(email)

    # ---- contents --------------------------------------------------------------------------------------------------

    def root(self, email: str) -> str:
        """Id of an account's My Drive."""
        return self.world.users[email].root

    def folder(self, email: str, name: str, parent: str | None = None) -> str:
        """Make a folder as that account (at the top of its My Drive) and return its id."""
        with self.world.lock:
            above = self.world.check_parent(email, parent, all_drives=True)
            return self.world.create(email, above, name, FOLDER, None).id

    def file(self, email: str, name: str, data: bytes, parent: str | None = None) -> str:
        """Make a file as that account and return its id."""
        with self.world.lock:
            above = self.world.check_parent(email, parent, all_drives=True)
            return self.world.create(email, above, name, "application/octet-stream", data).id

    def shared_drive(self, name: str, roles: dict[str, str]) -> str:
        """Make a shared drive with members, by address: organizer, fileOrganizer, writer, commenter or reader."""
        with self.world.lock:
            for email in roles:
                self.user(email)
            return self.world.add_drive(name, roles).id

    def share(self, item_id: str, email: str, role: str = "writer") -> None:
        """Let an account into a folder or file; role "" takes it out again."""
        with self.world.lock:
            self.user(email)
            item, user = self.world.items[item_id], self.world.users[email]
            below = self.world.below(item)
            saw = [self.world.who_sees(one) for one in below]
            if role:
                item.grants[user.permission_id] = Permission(email, role, user.permission_id)
            else:
                item.grants.pop(user.permission_id, None)
            for one, before in zip(below, saw, strict=True):
                self.world.changed(one, before)

    def item(self, item_id: str) -> Item:
        """The item as it is. Raises KeyError."""
        return self.world.items[item_id]

    def items(self, parent: str | None = None) -> list[Item]:
        """All there is, or all directly in one folder, by name."""
        with self.world.lock:
            found = [one for one in self.world.items.values() if parent is None or one.parent == parent]
        return sorted(found, key=lambda one: (one.name, one.id))

    def named(self, name: str) -> list[Item]:
        """Everything of that name."""
        return [one for one in self.items() if one.name == name]

    def content(self, item_id: str) -> bytes:
        """The bytes of a file."""
        blob = self.world.items[item_id].blob
        return blob.data if blob else b""

    # ---- breaking --------------------------------------------------------------------------------------------------

    def replace(self, item_id: str, data: bytes) -> None:
        """Other bytes under the same id, with right checksums. The old ones are what `OldVersion` serves."""
        with self.world.lock:
            self.world.put_bytes(self.world.items[item_id], data)

    def corrupt(self, item_id: str, at: int = 0) -> None:
        """Flip a bit of the stored bytes; the checksums stay those of the whole file."""
        with self.world.lock:
            blob = self.world.items[item_id].blob
            if blob is None:
                raise ValueError("a folder has no bytes")
            spoiled = bytearray(blob.data)
            spoiled[at] ^= 1
            self.world.items[item_id].blob = Blob(bytes(spoiled), blob.md5, blob.sha1, blob.sha256)

    def vanish(self, item_id: str) -> None:
        """The item is gone and no feed tells."""
        with self.world.lock:
            self.world.forget(self.world.items[item_id])

    def fail(
        self,
        fault: Fault,
        call: str = "*",
        *,
        nth: int = 1,
        times: int | None = 1,
        chance: float = 1.0,
        email: str | None = None,
        where: Callable[[Request], bool] | None = None,
    ) -> Rule:
        """Let something go wrong: from the `nth` matching request on, `times` (None: always), each with `chance`."""
        rule = Rule(fault, call, nth, times, chance, email, where)
        with self.world.lock:
            self.service.rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules."""
        with self.world.lock:
            self.service.rules.clear()

    def sever(self) -> None:
        """Cut every connection now."""
        self._server.sever()

    # ---- what was asked --------------------------------------------------------------------------------------------

    def requests(self, call: str | None = None) -> list[Record]:
        """Requests so far, those of one call or all."""
        with self.world.lock:
            return [one for one in self.service.log if call in (None, one.call)]

    def count(self, call: str | None = None) -> int:
        """How many."""
        return len(self.requests(call))

    def forget_requests(self) -> None:
        """Start the log anew."""
        with self.world.lock:
            self.service.log.clear()


__all__ = ["DRIVE_SCOPE", "Emulator"]
