"""My Drive: the uploader owns, only the owner removes, and access is what the folders above give."""

import pytest

from tests.drive_emulator import Emulator
from tests.drive_emulator.conftest import ANNA, BEN, EVE
from tests.drive_emulator.real_client import GoogleClient, refused_with


def may(client: GoogleClient, file_id: str) -> set[str]:
    """Capabilities that are told to be there, of those cryptfs asks for."""
    told = client.get(file_id, "capabilities")["capabilities"]
    return {name for name in ("canAddChildren", "canDelete", "canEdit", "canTrash", "canRemoveChildren") if told[name]}


def test_who_uploads_owns_and_pays(emulator: Emulator, ben: GoogleClient, folder: str) -> None:
    made = ben.create(folder, "b", b"12345")["id"]
    told = ben.get(made)
    assert (told["ownedByMe"], told["owners"][0]["emailAddress"], told["parents"]) == (True, BEN, [folder])
    assert (emulator.world.bytes_of[ANNA], emulator.world.bytes_of[BEN]) == (0, 5)


def test_capabilities_are_those_of_the_asker(anna: GoogleClient, ben: GoogleClient, folder: str) -> None:
    made = ben.create(folder, "b", b"")["id"]
    assert may(ben, made) == {"canDelete", "canEdit", "canTrash"}
    assert may(anna, made) == {"canEdit"}  # a folder's owner may write to what is in it, not remove it
    assert may(anna, folder) == {"canAddChildren", "canDelete", "canEdit", "canTrash", "canRemoveChildren"}
    assert may(ben, folder) == {"canAddChildren", "canEdit", "canRemoveChildren"}


def test_only_the_owner_trashes_and_deletes(anna: GoogleClient, ben: GoogleClient, folder: str) -> None:
    made = ben.create(folder, "b", b"")["id"]
    refused_with(403, "insufficientFilePermissions", lambda: anna.delete(made))
    refused_with(403, "insufficientFilePermissions", lambda: anna.update(made, {"trashed": True}))
    refused_with(403, "insufficientFilePermissions", lambda: ben.delete(folder))
    ben.update(made, {"trashed": True})
    refused_with(404, "notFound", lambda: anna.get(made))  # open at Google: the worse answer
    ben.update(made, {"trashed": False})
    assert anna.get(made)["trashed"] is False
    ben.delete(made)
    refused_with(404, "notFound", lambda: ben.get(made))


def test_what_others_trashed_may_be_set_to_be_readable(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    made = ben.create(folder, "b", b"bytes")["id"]
    ben.update(made, {"trashed": True})
    emulator.settings.behaviour.others_read_trash = True
    assert anna.read(made) == b"bytes"


def test_no_access_reads_as_not_found(eve: GoogleClient, emulator: Emulator, folder: str) -> None:
    made = emulator.file(ANNA, "a", b"", folder)
    for act in (
        lambda: eve.get(made),
        lambda: eve.read(made),
        lambda: eve.update(made, {"name": "x"}),
        lambda: eve.delete(made),
        lambda: eve.create(folder, "x", b""),
        lambda: eve.run(eve.api.files().copy(fileId=made)),
        lambda: eve.run(eve.api.permissions().list(fileId=made)),
    ):
        refused_with(404, "notFound", act)


def test_a_reader_reads_and_nothing_else(emulator: Emulator, eve: GoogleClient, folder: str) -> None:
    made = emulator.file(ANNA, "a", b"bytes", folder)
    emulator.share(folder, EVE, "reader")
    assert eve.read(made) == b"bytes"
    refused_with(403, "insufficientParentPermissions", lambda: eve.create(folder, "x", b""))
    refused_with(403, "insufficientFilePermissions", lambda: eve.update(made, {"name": "x"}))
    refused_with(403, "insufficientFilePermissions", lambda: eve.update(made, removeParents=folder))
    refused_with(403, "insufficientFilePermissions", lambda: eve.run(eve.api.permissions().list(fileId=made)))
    assert emulator.item(made).name == "a"


def test_an_editor_who_unlinks_sends_a_file_to_its_owners_top_folder(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    made = ben.create(folder, "b", b"bytes")["id"]
    start = anna.feed_end()
    anna.update(made, removeParents=folder)
    assert emulator.item(made).parent == emulator.root(BEN)
    assert ben.read(made) == b"bytes"
    refused_with(404, "notFound", lambda: anna.get(made))
    assert [(one["fileId"], one["removed"]) for one in anna.changes(start)[0]] == [(made, True)]
    ben.update(made, addParents=folder, removeParents=emulator.root(BEN))  # the owner puts it back
    assert anna.read(made) == b"bytes"


def test_a_file_is_in_one_folder(emulator: Emulator, anna: GoogleClient, folder: str) -> None:
    other = emulator.folder(ANNA, "other")
    made = emulator.file(ANNA, "a", b"", folder)
    refused_with(403, "cannotAddParent", lambda: anna.update(made, addParents=other))
    anna.update(made, addParents=other, removeParents=folder)
    assert emulator.item(made).parent == other
    body = {"name": "b", "parents": [folder, other]}
    refused_with(403, "multipleParents", lambda: anna.run(anna.api.files().create(body=body)))
    refused_with(403, "fieldNotWritable", lambda: anna.update(made, {"parents": [folder]}))
    inner = emulator.folder(ANNA, "inner", other)
    refused_with(403, "cyclic", lambda: anna.update(other, addParents=inner, removeParents=emulator.root(ANNA)))


def test_a_deleted_folder_takes_what_its_owner_has_in_it_and_spares_the_rest(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    inner = emulator.folder(ANNA, "inner", folder)
    hers, his = emulator.file(ANNA, "a", b"", inner), ben.create(inner, "b", b"bytes")["id"]
    anna.delete(folder)
    refused_with(404, "notFound", lambda: anna.get(hers))
    assert emulator.item(his).parent == emulator.root(BEN)
    assert ben.read(his) == b"bytes"


def test_a_trashed_folder_trashes_what_is_in_it(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    hers, his = emulator.file(ANNA, "a", b"", folder), ben.create(folder, "b", b"")["id"]
    anna.update(folder, {"trashed": True})
    told = anna.get(hers)
    assert (told["trashed"], told["explicitlyTrashed"]) == (True, False)
    refused_with(404, "notFound", lambda: ben.get(hers))
    assert ben.get(his)["trashed"] is True


def test_an_account_that_is_deleted_takes_its_files_along(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    made = ben.create(folder, "b", b"")["id"]
    start = anna.feed_end()
    emulator.remove_user(BEN)
    refused_with(404, "notFound", lambda: anna.get(made))
    assert [(one["fileId"], one["removed"]) for one in anna.changes(start)[0]] == [(made, True)]
    refused_with(401, "authError", lambda: ben.http and _raw_get(emulator, ben, made))


def _raw_get(emulator: Emulator, client: GoogleClient, file_id: str) -> object:
    """With the token as it is: Google's client would try to renew it first."""
    request = client.api.files().get(fileId=file_id)
    request.headers["Authorization"] = f"Bearer {client.credentials.token}"
    return request.execute(http=client.http)


def test_a_copy_belongs_to_who_copies(emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str) -> None:
    made = ben.create(folder, "b", b"bytes")["id"]
    wanted = anna.mint(1)[0]
    body = {"id": wanted, "name": "b", "parents": [folder]}
    fields = "id,ownedByMe,size,md5Checksum"
    told = anna.run(anna.api.files().copy(fileId=made, body=body, fields=fields, supportsAllDrives=True))
    assert (told["id"], told["ownedByMe"], told["size"]) == (wanted, True, "5")
    emulator.remove_user(BEN)
    assert anna.read(wanted) == b"bytes"
    emulator.settings.behaviour.copies_allowed = False
    refused_with(403, "cannotCopyFile", lambda: anna.run(anna.api.files().copy(fileId=wanted)))


def test_an_account_without_storage_makes_nothing(emulator: Emulator, folder: str) -> None:
    emulator.user("robot@project.iam.example.org", storage=0)
    emulator.share(folder, "robot@project.iam.example.org")
    with GoogleClient(emulator, "robot@project.iam.example.org") as robot:
        refused_with(403, "storageQuotaExceeded", lambda: robot.create(folder, "a", b"x"))


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_sharing_lets_in_and_takes_out(
    emulator: Emulator, anna: GoogleClient, eve: GoogleClient, folder: str, role: str
) -> None:
    made = emulator.file(ANNA, "a", b"", folder)
    permissions = anna.api.permissions()
    body = {"type": "user", "role": role, "emailAddress": EVE}
    told = anna.run(permissions.create(fileId=folder, body=body, sendNotificationEmail=False))
    assert eve.get(made)["capabilities"]["canEdit"] is (role == "writer")
    listed = anna.run(permissions.list(fileId=folder, fields="permissions(id,emailAddress,role)"))["permissions"]
    assert {one["emailAddress"]: one["role"] for one in listed} == {ANNA: "owner", BEN: "writer", EVE: role}
    anna.run(permissions.delete(fileId=folder, permissionId=told["id"]))
    refused_with(404, "notFound", lambda: eve.get(made))
    refused_with(404, "permissionId", lambda: anna.run(permissions.delete(fileId=folder, permissionId=told["id"])))


def test_what_a_folder_gives_is_not_taken_away_further_down_but_by_the_owner_there(
    emulator: Emulator, anna: GoogleClient, ben: GoogleClient, folder: str
) -> None:
    hers, his = emulator.file(ANNA, "a", b"", folder), ben.create(folder, "b", b"")["id"]
    emulator.share(folder, EVE, "writer")
    eves = emulator.world.users[EVE].permission_id
    annas = emulator.world.users[ANNA].permission_id
    permissions = ben.api.permissions()
    refused_with(403, "cannotDelete", lambda: ben.run(permissions.delete(fileId=hers, permissionId=eves)))
    ben.run(permissions.delete(fileId=his, permissionId=annas))  # even from who owns the folder
    refused_with(404, "notFound", lambda: anna.get(his))
    refused_with(403, "cannotDelete", lambda: ben.run(permissions.delete(fileId=folder, permissionId=annas)))


def test_addresses_without_an_account_and_impossible_roles_are_refused(anna: GoogleClient, folder: str) -> None:
    def share(email: str, role: str) -> object:
        body = {"type": "user", "role": role, "emailAddress": email}
        return anna.run(anna.api.permissions().create(fileId=folder, body=body, sendNotificationEmail=False))

    refused_with(400, "invalidSharingRequest", lambda: share("nobody@example.org", "writer"))
    refused_with(403, "", lambda: share(EVE, "organizer"))
    refused_with(403, "transferOwnership", lambda: share(EVE, "owner"))
    refused_with(400, "role", lambda: share(EVE, "king"))
