"""How an object gets into Google Drive exactly once, whatever breaks on the way (docs/google-drive.md, "An upload").

    known and there     -> nothing to do
    id drawn            -> on the disk before the first byte; the same id on every further try, also after a restart
    up to 256 KiB       -> one request; above: a session, its address kept, gone on with from the offset Google names
    409                 -> an earlier try arrived: its sums decide
    size, MD5, SHA-256  -> of the reply equal those of the bytes: only then is it there

The id makes the repetition harmless, the sums make it true.
"""

from typing import Final

from cryptfs.errors import Exists, Fatal, NotFound, Retry, StoreError
from cryptfs.faults import Faults
from cryptfs.store.base import Call, split_key
from cryptfs.store.drive.client import Client, File, Session
from cryptfs.store.drive.errors import IdRefused
from cryptfs.store.drive.folders import Folders, draw, entry_of, spellings
from cryptfs.store.drive.idmap import Entry, IdMap, Sums, Upload
from cryptfs.store.drive.source import Source
from cryptfs.store.drive.turns import Turns

__all__ = ["Uploads"]

_ONE_REQUEST: Final = 256 << 10
"""Bytes up to which an object goes in one request: Google's library builds the body of such a one slowly."""
_BEGINNINGS: Final = 3
"""Ids, or folders, tried in one call before the caller is told to come again."""


class _BeginAnew(Exception):
    """This attempt cannot succeed, another under a new id can. No file was made by it."""


class Uploads:
    """Puts objects. Thread-safe; one thread at a time for each key. Raises the store family, LocalDisk."""

    def __init__(self, client: Client, ids: IdMap, folders: Folders, faults: Faults) -> None:
        self._client = client
        self._ids = ids
        self._folders = folders
        self._faults = faults
        self._turns = Turns()

    def put(self, key: str, source: Source, call: Call) -> Entry:
        """Have Drive hold an object of these bytes under `key`; returns what it is known as."""
        with self._turns.of(key, call):
            found = self._there(key, source, call)
            if found is not None:
                return found
            for _ in range(_BEGINNINGS):
                upload = self._begun(key, source, call)
                try:
                    return self._send(upload, source, call)
                except _BeginAnew:
                    self._ids.ended(upload.key)
            raise Retry("Google Drive does not take a new object.", "It is tried again.")

    def put_beside(self, key: str, parent: str, source: Source, call: Call) -> Entry:
        """As `put` into that folder, whatever files of these bytes there are already."""
        with self._turns.of(key, call):
            upload = self._going_to(key, parent, source.sums, call)
            try:
                return self._send(upload, source, call)
            except _BeginAnew as error:
                raise self._next_time(upload) from error

    def copy(self, entry: Entry, parent: str, call: Call) -> Entry:
        """Have Drive copy a file into that folder, so that this account owns one of the same name and bytes.

        Returns the copy. Denied if its owner forbids it.
        """
        with self._turns.of(entry.key, call):
            upload = self._going_to(entry.key, parent, entry.sums, call)
            self._faults.step("drive.copy")
            try:
                name = split_key(entry.key)[1]
                try:
                    file = self._client.copy(entry.id, upload.id, name, upload.parent, call)
                except Exists:
                    file = self._arrived(upload, call)
            except _BeginAnew as error:
                raise self._next_time(upload) from error
            except IdRefused as error:
                self._ids.drop_ids()
                raise self._next_time(upload) from error
            self._faults.step("drive.copied")
            return self._proven(upload, file, call)

    def _next_time(self, upload: Upload) -> Retry:
        """The next try begins anew, under another id."""
        self._ids.ended(upload.key)
        return Retry("Google Drive does not take a new object.", "It is tried again.", passing=True)

    def _going_to(self, key: str, parent: str, sums: Sums, call: Call) -> Upload:
        """The upload of these bytes to that folder: the one that was begun, or a new one."""
        upload = self._ids.upload(key)
        if upload is None or upload.sums != sums or upload.parent != parent:
            upload = draw(self._client, self._ids, key, parent, sums, call=call)
        return upload

    # ---- before anything is sent -------------------------------------------------------------------------------------

    def _there(self, key: str, source: Source, call: Call) -> Entry | None:
        """A file of these bytes that is known and still there."""
        for known in [entry for one in spellings(key) for entry in self._ids.copies(one)]:
            if not known.sums.agree(source.sums):
                continue
            try:
                file = self._client.file(known.id, call)
            except NotFound:
                self._ids.forget(known.id)
                continue
            if self._folders.key_of(file) == known.key and file.sums.agree(source.sums):
                return known
            self._ids.forget(known.id)
        return None

    def _begun(self, key: str, source: Source, call: Call) -> Upload:
        """The upload of this object that was begun before, or a new one."""
        for one in spellings(key):
            upload = self._ids.upload(one)
            if upload is not None:
                if upload.sums == source.sums:
                    return upload
                self._ids.ended(one)  # of other bytes under this key nobody speaks any more
        place, parent = self._folders.place_for(key, call)
        self._faults.step("drive.draw")
        upload = draw(self._client, self._ids, place, parent, source.sums, call=call)
        self._faults.step("drive.drawn")
        return upload

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _send(self, upload: Upload, source: Source, call: Call) -> Entry:
        small = source.sums.size <= _ONE_REQUEST
        try:
            file = self._at_once(upload, source, call) if small else self._in_chunks(upload, source, call)
        except Exists:
            file = self._arrived(upload, call)
        except IdRefused as error:
            self._ids.drop_ids()  # all of that age
            raise _BeginAnew from error
        except NotFound as error:
            self._folders.lost(upload.parent, call)
            raise _BeginAnew from error
        self._faults.step("drive.sent")
        return self._proven(upload, file, call)

    def _at_once(self, upload: Upload, source: Source, call: Call) -> File:
        self._faults.step("drive.create")
        return self._client.create(upload.id, split_key(upload.key)[1], upload.parent, source, call)

    def _in_chunks(self, upload: Upload, source: Source, call: Call) -> File:
        """NotFound if the folder is not there."""
        name = split_key(upload.key)[1]
        session = self._client.session(upload.id, name, upload.parent, source, upload.session)
        while True:
            self._faults.step("drive.chunk")
            try:
                file = self._step(upload, session, call)
            except NotFound:
                if not session.address:
                    raise
                # The session has expired, or was finished and forgotten; the id tells which.
                upload = self._ids.continue_at(upload, "")
                session = self._client.session(upload.id, name, upload.parent, source)
                continue
            if session.address != upload.session:
                upload = self._ids.continue_at(upload, session.address)
            if file is not None:
                return file

    def _step(self, upload: Upload, session: Session, call: Call) -> File | None:
        """One chunk; where to go on is kept also when it fails."""
        try:
            return session.step(call)
        except StoreError as error:
            if session.address and session.address != upload.session and not isinstance(error, NotFound):
                self._ids.continue_at(upload, session.address)
            raise

    def _arrived(self, upload: Upload, call: Call) -> File:
        """The file that an earlier try made under this id."""
        try:
            file = self._client.file(upload.id, call)
        except NotFound as error:  # and somebody deleted it: the id is used up
            raise _BeginAnew from error
        if file.trashed:
            raise _BeginAnew
        return file

    # ---- the proof ---------------------------------------------------------------------------------------------------

    def _proven(self, upload: Upload, file: File, call: Call) -> Entry:
        """What Drive says it holds is what was sent. Fatal, the alarm, if not."""
        if not file.sums.md5:
            file = self._client.file(upload.id, call)
        if not file.sums.agree(upload.sums):
            self._ids.ended(upload.key)  # the next try makes another file
            raise Fatal(
                f"Google Drive holds other bytes for {upload.key} than were sent to it.",
                "It is sent again under another id. If this is said again, run `cryptfs fsck NAME`.",
                state="alarm",
            )
        entry = entry_of(file, upload.key, proven=True)
        if not entry.parent:
            entry = Entry(entry.id, entry.key, upload.parent, entry.sums, entry.mtime_ms, entry.mine, proven=True)
        self._ids.ended(upload.key, entry)
        self._faults.step("drive.proven")
        return entry
