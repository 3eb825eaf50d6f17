"""From a request to its answer, without a network: who asks, whether too fast, what is done, what goes wrong."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.drive_emulator import faults, files_api, others_api
from tests.drive_emulator.answers import Refusal, Reply, Request
from tests.drive_emulator.clock import Clock
from tests.drive_emulator.faults import Fault, Rule
from tests.drive_emulator.limits import WRITES, Gate, refuse_scope
from tests.drive_emulator.listings import Listings
from tests.drive_emulator.oauth import DRIVE_SCOPE, OAuth, missing_login
from tests.drive_emulator.settings import Settings
from tests.drive_emulator.uploads import Uploads
from tests.drive_emulator.world import World

_MOST_RECORDS = 100_000


@dataclass(slots=True)
class Record:
    """One request as it was seen, and what became of it. `status` 0: no answer was sent."""

    number: int
    call: str
    email: str
    method: str
    path: str
    query: dict[str, str]
    ids: tuple[str, ...]
    range: str | None
    received: int  # bytes of the body
    at: float
    status: int = 0
    sent: int = 0  # bytes of the answer's body
    fault: str = ""
    seconds: float = 0.0


class Service:
    """Everything behind the socket."""

    def __init__(self, settings: Settings, clock: Clock, seed: int) -> None:
        self.settings, self.clock = settings, clock
        self.world = World(settings, clock, seed)
        self.gate = Gate(settings, clock)
        self.oauth = OAuth(self.world)
        self.uploads = Uploads(self.world)
        listings = Listings(self.world)
        self.rules: list[Rule] = []
        self.log: deque[Record] = deque(maxlen=_MOST_RECORDS)
        self._calls: dict[str, Callable[[World, Request], Reply]] = {
            "files.generateIds": files_api.generate_ids,
            "files.list": lambda _, request: listings.answer(request),
            "files.create": self._create,
            "files.update": self._update,
            "files.get": files_api.get,
            "files.get_media": files_api.get_media,
            "files.delete": files_api.delete,
            "files.emptyTrash": files_api.empty_trash,
            "files.copy": files_api.copy,
            "upload.start": lambda _, request: self.uploads.start(request),
            "upload.chunk": lambda _, request: self.uploads.put(request),
            "upload.query": lambda _, request: self.uploads.put(request),
            "changes.getStartPageToken": others_api.start_page_token,
            "changes.list": others_api.list_changes,
            "about.get": others_api.about,
            "permissions.list": others_api.list_permissions,
            "permissions.get": others_api.get_permission,
            "permissions.create": others_api.create_permission,
            "permissions.update": others_api.update_permission,
            "permissions.delete": others_api.delete_permission,
            "drives.list": others_api.list_drives,
            "drives.get": others_api.get_drive,
        }
        self._open_calls: dict[str, Callable[[Request], Reply]] = {
            "token": self.oauth.token,
            "revoke": self.oauth.revoke,
            "authorize": self.oauth.authorize,
        }

    # ---- before the body -------------------------------------------------------------------------------------------

    def admit(self, request: Request, length: int) -> tuple[Record, list[Fault]]:
        """Number the request, find out whose it is, and which faults it meets."""
        with self.world.lock:
            self.world.requests += 1
            request.number = self.world.requests
            try:
                access = self.oauth.whose(request)
            except Refusal:
                access = None
            request.email = access.email if access else ""
            met = [rule.fault for rule in self.rules if rule.meets(request, self.world.random)]
            record = Record(
                request.number,
                request.call,
                request.email,
                request.method,
                request.path,
                dict(request.query),
                request.ids,
                request.headers.get("Range"),
                length,
                self.clock.now(),
                fault=", ".join(type(one).__name__ for one in met),
            )
            self.log.append(record)
        return record, met

    def delay(self, request: Request) -> float:
        """Seconds this call takes before anything happens."""
        network = self.settings.network
        seconds = network.latency + (network.create_latency if request.call in WRITES else 0)
        if seconds and network.jitter:
            with self.world.lock:
                seconds *= 1 + self.world.random.uniform(0, network.jitter)
        return seconds

    # ---- the answer ------------------------------------------------------------------------------------------------

    def answer(self, request: Request, met: list[Fault]) -> Reply:
        """Do what is asked. Never raises: refusals are answers."""
        for fault in met:
            if isinstance(fault, faults.Answer):
                return fault.reply
        try:
            with self.world.lock:
                self._prepare(request, met)
                reply = self._act(request)
                for fault in met:
                    if isinstance(fault, faults.LoseTail) and request.call == "upload.chunk":
                        self.uploads.lose_tail(request.query["upload_id"], fault.count)
        except Refusal as refusal:
            return refusal.reply()
        return self._spoiled(reply, met)

    def _prepare(self, request: Request, met: list[Fault]) -> None:
        for fault in met:
            request.ignore_range = request.ignore_range or isinstance(fault, faults.IgnoreRange)
            request.old_version = request.old_version or isinstance(fault, faults.OldVersion)
            if isinstance(fault, faults.Vanish) and request.ids and request.ids[0] in self.world.items:
                self.world.forget(self.world.items[request.ids[0]])

    def _act(self, request: Request) -> Reply:
        if request.call in self._open_calls:
            return self._open_calls[request.call](request)
        if request.call not in self._calls:
            return missing_page(request.path)
        access = self.oauth.whose(request)
        if access is not None:
            request.email = access.email
            if DRIVE_SCOPE not in access.scopes.split():
                raise refuse_scope()
        elif request.call not in ("upload.chunk", "upload.query"):  # whose address is itself the right to them
            raise missing_login()
        self.gate.check(request.email, request.call)
        return self._calls[request.call](self.world, request)

    def _create(self, world: World, request: Request) -> Reply:
        return (
            self.uploads.simple(request)
            if "/upload/" in request.path
            else files_api.create_without_media(world, request)
        )

    def _update(self, world: World, request: Request) -> Reply:
        return self.uploads.simple(request) if "/upload/" in request.path else files_api.update(world, request)

    def _spoiled(self, reply: Reply, met: list[Fault]) -> Reply:
        for fault in met:
            if isinstance(fault, faults.FlipBit) and reply.body:
                with self.world.lock:
                    at = fault.at if fault.at is not None else self.world.random.randrange(len(reply.body))
                spoiled = bytearray(reply.body)
                spoiled[at % len(spoiled)] ^= 1
                reply = Reply(reply.status, bytes(spoiled), reply.headers)
        return reply

    @staticmethod
    def stopwatch() -> float:
        """For the log alone; what the emulator decides by is `clock`."""
        return time.monotonic()


def missing_page(path: str) -> Reply:
    """What Google says to addresses it does not know."""
    text = f"<!DOCTYPE html><html><title>Error 404 (Not Found)!!1</title><p>{len(path)} letters lead nowhere.</html>\n"
    return Reply(404, text.encode(), {"Content-Type": "text/html; charset=UTF-8"})
