"""Answers to files.list: search, order and pages, with the lag and the holes that the settings ask for."""

from collections.abc import Callable

from tests.drive_emulator import access
from tests.drive_emulator.answers import Refusal, Reply, Request, invalid, json_reply
from tests.drive_emulator.fields import chosen
from tests.drive_emulator.files_api import whole_number
from tests.drive_emulator.items import Item, at_least, moment
from tests.drive_emulator.query import Term, compares, holds, name_matches, parents_asked, parse
from tests.drive_emulator.resources import file_resource
from tests.drive_emulator.world import World

ORDERS = {
    "name": lambda item: item.name.casefold(),
    "name_natural": lambda item: item.name.casefold(),
    "folder": lambda item: not item.is_folder,
    "createdTime": lambda item: item.created,
    "modifiedTime": lambda item: item.modified,
    "modifiedByMeTime": lambda item: item.modified,
    "recency": lambda item: item.modified,
    "viewedByMeTime": lambda item: item.modified,
    "quotaBytesUsed": lambda item: item.size,
}


class Listings:
    """Answers files.list. The pages that follow are what was found when the first was asked for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pages: dict[str, tuple[float, str, list[str]]] = {}

    def answer(self, request: Request) -> Reply:
        """One page."""
        size = whole_number(request, "pageSize", 100, 1, 1000)
        question = "\0".join(request.query.get(name, "") for name in ("q", "corpora", "driveId", "orderBy"))
        question += "\0" + request.email
        token = request.query.get("pageToken")
        found = self._continued(token, question) if token else self._found(request)
        page, rest = found[:size], found[size:]
        files = []
        for file_id in page:
            item = self._world.as_listed(file_id)
            if item is not None:
                files.append(file_resource(self._world, item, request.email))
        answer: dict[str, object] = {"kind": "drive#fileList", "incompleteSearch": False, "files": files}
        if rest:
            fresh = "~!!~" + self._world.new_id()
            self._pages[fresh] = (self._world.clock.now(), question, rest)
            answer["nextPageToken"] = fresh
        return json_reply(chosen("files.list", request.query.get("fields"), answer))

    def _continued(self, token: str, question: str) -> list[str]:
        listing = self._world.settings.listing
        began, asked, rest = self._pages.get(token, (0.0, "", []))
        late = self._world.clock.now() - began > listing.page_token_seconds
        if listing.page_tokens_refused or late or asked != question:
            raise Refusal(400, "invalid", "Invalid Value", location="pageToken")
        return rest

    def _found(self, request: Request) -> list[str]:
        world, settings = self._world, self._world.settings.listing
        query = parse(request.query["q"]) if request.query.get("q", "").strip() else None
        asked = parents_asked(query) if query is not None else []
        roots = {"root": world.users[request.email].root}
        within = self._scope(request)
        first_only = settings.or_parents_drop and len(set(asked)) > 1 and isinstance(query, tuple)
        candidates = set(world.past) | set(world.items)
        if len(set(asked)) == 1 and not settings.lag_seconds and not settings.lag_requests:
            candidates = world.children.get(roots.get(asked[0], asked[0]), set())  # the usual question, made quick
        found = []
        for file_id in candidates:
            item = world.as_listed(file_id)
            if item is None or item.parent is None or not within(item):
                continue
            if query is not None and not holds(query, lambda term, item=item: self._test(term, item, request.email)):
                continue
            if first_only and item.parent != roots.get(asked[0], asked[0]):
                continue
            if settings.miss and world.random.random() < settings.miss:
                continue
            found.append(item)
        found.sort(key=lambda item: item.id)
        self._sort(found, request.query.get("orderBy", ""))
        return [item.id for item in found]

    def _scope(self, request: Request) -> Callable[[Item], bool]:
        """Which items this question is about at all."""
        world, asker = self._world, request.email
        everywhere = request.flag("includeItemsFromAllDrives")
        if everywhere and not request.flag("supportsAllDrives"):
            raise Refusal(403, "teamDrivesParameterRequired", "supportsAllDrives must be true.", location="corpora")
        corpora, drive = request.query.get("corpora", "user"), request.query.get("driveId")
        if corpora not in ("user", "drive", "domain", "allDrives"):
            raise invalid("corpora", corpora)
        if (corpora == "drive") != (drive is not None):
            message = "The driveId parameter must be specified if and only if corpora is set to drive."
            raise Refusal(403, "teamDriveIdRequired", message, location="driveId")
        if drive is not None:
            if not everywhere:
                raise Refusal(403, "teamDrivesParameterRequired", "includeItemsFromAllDrives must be true.")
            if drive not in world.drives or not access.may_see(world, world.items[drive], asker):
                raise Refusal(404, "notFound", f"Shared drive not found: {drive}", location="driveId")

        def within(item: Item) -> bool:
            there = world.items.get(item.id, item)
            if item.drive is not None and (not everywhere or (drive is not None and item.drive != drive)):
                return False
            return (drive is None or item.drive == drive) and access.may_see(world, there, asker)

        return within

    def _test(self, term: Term, item: Item, asker: str) -> bool:
        world = self._world
        if term.field == "parents":
            wanted = world.users[asker].root if term.value == "root" else term.value
            above = world.items.get(wanted)
            return item.parent == wanted and above is not None and access.role_of(world, above, asker) is not None
        if term.field in ("name", "fullText"):
            return name_matches(term.op, term.value, item.name)
        if term.field == "mimeType":
            same = item.mime.startswith(term.value) if term.op == "contains" else item.mime == term.value
            return same != (term.op == "!=")
        if term.field in ("modifiedTime", "createdTime", "viewedByMeTime", "sharedWithMeTime"):
            try:
                when = moment(term.value)
            except ValueError:
                raise Refusal(400, "invalid", "Invalid Value", location="q") from None
            return compares(term.op, item.created if term.field == "createdTime" else item.modified, when)
        if term.field in ("owners", "writers", "readers"):
            least = {"owners": "owner", "writers": "writer", "readers": "reader"}[term.field]
            return at_least(access.role_of(world, item, asker if term.value == "me" else term.value), least)
        is_so = {
            "trashed": lambda: access.is_trashed(world.items, item),
            "starred": lambda: bool(item.extra.get("starred")),
            "sharedWithMe": lambda: item.owner != asker and world.users[asker].permission_id in item.grants,
        }[term.field]()
        return (is_so == (term.value == "true")) == (term.op == "=")

    @staticmethod
    def _sort(found: list[Item], order: str) -> None:
        for key in reversed([one.strip() for one in order.split(",") if one.strip()]):
            name, _, direction = key.partition(" ")
            if name not in ORDERS or direction not in ("", "desc"):
                raise invalid("orderBy", order)
            found.sort(key=ORDERS[name], reverse=bool(direction))
