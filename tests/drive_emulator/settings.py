"""Everything about an emulated Drive that can be set, and changed while it runs.

The defaults are pessimistic where Google promises nothing, and free of limits and delays, so that tests are quick;
`realistic()` puts the published limits and ordinary delays in.
"""

from dataclasses import dataclass, field

MiB = 1 << 20
GiB = 1 << 30


@dataclass(slots=True)
class Network:
    """How far away this Drive is. Seconds and Mbit/s; 0 is no delay and no bound."""

    latency: float = 0.0  # of every call
    create_latency: float = 0.0  # on top, of what makes, changes or removes a file
    jitter: float = 0.0  # each delay is longer by up to this part of itself
    up_mbit: float = 0.0
    down_mbit: float = 0.0


@dataclass(slots=True)
class Limits:
    """What an account, a project and a folder may. None is no bound."""

    writes_per_second: float | None = None  # create, update, copy, delete, share: about 3 an account at Google
    write_burst: int = 10
    write_refusal: str = "403"  # "403", "429" or "both", which alternates
    retry_after: float | None = None  # seconds to be named in such a refusal
    new_error_shape: bool = False
    user_units_per_minute: int | None = None  # 325,000 at Google
    project_units_per_minute: int | None = None  # 1,000,000
    project_units_per_day: int | None = None  # 400,000,000
    children: int = 500_000  # of one folder
    shared_drive_items: int = 500_000
    upload_bytes_per_day: int | None = None  # 750 GB a user
    multipart_bytes: int = 5 * MiB
    session_seconds: float = 7 * 86_400


@dataclass(slots=True)
class Listing:
    """How listings differ from the truth."""

    lag_seconds: float = 0.0  # what is younger is not shown, and older states of it are
    lag_requests: int = 0  # the same, counted in requests of anybody
    hidden: set[str] = field(default_factory=set)  # ids no listing shows
    miss: float = 0.0  # chance of one entry to be left out of one listing
    or_parents_drop: bool = True  # of several `in parents` joined by `or` only the first has results
    page_tokens_refused: bool = False
    page_token_seconds: float = 4 * 3600


@dataclass(slots=True)
class Feed:
    """How the changes feed differs from the truth."""

    lag_seconds: float = 0.0
    lag_jitter: float = 0.0  # seconds more for each entry by chance: entries overtake each other
    repeat: float = 0.0  # chance of an entry to come a second time, later
    lose: float = 0.0  # chance of an entry never to come
    shows_foreign: bool = True  # what others make in folders shared with the user


@dataclass(slots=True)
class Behaviour:
    """Answers Google leaves open."""

    foreign_ids: bool = False  # may an id minted for another account be used?
    id_seconds: float | None = None  # life of an unused id
    sha256: bool = True  # are sha256Checksum and sha1Checksum there?
    range_honoured: bool = True
    others_read_trash: bool = False  # what an owner has put into the trash, on My Drive
    writer_may_trash: bool = False  # on a shared drive
    finished_session: int = 404  # answer to data sent again after the last byte: 200, 404 or 410
    expired_session: int = 404  # 404 or 410
    token_seconds: float = 3600
    login_shows_page: bool = True  # else the authorization address redirects at once, as the first user
    copies_allowed: bool = True
    abusive: set[str] = field(default_factory=set)  # ids that are taken for harmful, and given to who may delete them


@dataclass(slots=True)
class Settings:
    """All of it, by topic."""

    network: Network = field(default_factory=Network)
    limits: Limits = field(default_factory=Limits)
    listing: Listing = field(default_factory=Listing)
    feed: Feed = field(default_factory=Feed)
    behaviour: Behaviour = field(default_factory=Behaviour)


def realistic() -> Settings:
    """Limits as published, delays as they are met on a good day."""
    settings = Settings()
    settings.network = Network(latency=0.15, create_latency=0.15, jitter=0.3)
    settings.limits = Limits(
        writes_per_second=3,
        user_units_per_minute=325_000,
        project_units_per_minute=1_000_000,
        project_units_per_day=400_000_000,
        upload_bytes_per_day=750_000_000_000,
    )
    settings.listing = Listing(lag_seconds=2)
    settings.feed = Feed(lag_seconds=1, lag_jitter=2)
    return settings
