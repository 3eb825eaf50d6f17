"""A Google Drive that runs in the same process, as pessimistic as the real one may be, and with faults on order.

It speaks Drive v3 over HTTP/1.1, and OAuth, to the unmodified google-api-python-client (patch `rootUrl` of the
discovery document) and to other programs (with `secure=True` and the API's host names pointing at it).

    with Emulator() as emulator:
        token = emulator.user("anna@example.org")            # access token; makes the account
        vault = emulator.folder("anna@example.org", "vault")
        emulator.share(vault, "ben@example.org", "writer")
        ... talk to emulator.url with the token ...
        emulator.fail(DropAfter(), "files.create", nth=2)     # the second create is done, its answer is lost
        emulator.fail(refusal(403, "storageQuotaExceeded"), "upload.start", times=None)
        emulator.named("l"), emulator.content(file_id), emulator.count("files.create")

* Accounts: `user`, `credentials` (refresh token and all), `client_config` (for login flows), `expire_tokens`, `revoke`,
  `remove_user`. The authorization page is `/o/oauth2/auth`; adding `&as=E-MAIL` to its address answers it.
* Contents: `root`, `folder`, `file`, `share`, `shared_drive`, `item`, `items`, `named`, `content`.
* Breaking: `fail` with a fault of `faults.py` and a pattern of calls (their names are in `routes.find`), `heal`,
  `replace`, `corrupt`, `vanish`, `sever`; lasting behaviour is in `settings` (`settings.py`), which may be changed at
  any time: network, limits, listing, feed, behaviour.
* Looking: `requests`, `count`, `forget_requests`; `service.gate.units` are the quota units used.
* Time: `clock=VirtualClock()` moves by `clock.advance(seconds)` alone.

`python -m tests.drive_emulator --help` runs one by hand; docs/google-drive.md, "Trying it without Google", tells how.
"""

from tests.drive_emulator.clock import RealClock, VirtualClock
from tests.drive_emulator.emulator import DRIVE_SCOPE, Emulator
from tests.drive_emulator.faults import (
    Answer,
    Drip,
    DropAfter,
    DropBefore,
    FlipBit,
    IgnoreRange,
    LoseTail,
    OldVersion,
    Rule,
    Stall,
    Truncate,
    Vanish,
    garbage,
    html,
    refusal,
)
from tests.drive_emulator.settings import Behaviour, Feed, Limits, Listing, Network, Settings, realistic

__all__ = [
    "DRIVE_SCOPE",
    "Answer",
    "Behaviour",
    "Drip",
    "DropAfter",
    "DropBefore",
    "Emulator",
    "Feed",
    "FlipBit",
    "IgnoreRange",
    "Limits",
    "Listing",
    "LoseTail",
    "Network",
    "OldVersion",
    "RealClock",
    "Rule",
    "Settings",
    "Stall",
    "Truncate",
    "Vanish",
    "VirtualClock",
    "garbage",
    "html",
    "realistic",
    "refusal",
]
