import errno

from mount_kernel import refused


def names(entries):
    return [entry.name for entry in entries]


def fill(kernel, count=5):
    for index in range(count):
        kernel.touch(f"f{index}")
    return kernel.fs.listings, kernel.fs.listings.opendir(1)


def test_a_listing_has_dots_all_names_and_their_attributes(kernel):
    kernel.mkdir("d")
    st = kernel.touch("d/f")
    fh = kernel.fs.listings.opendir(kernel.st("d"))
    entries = list(kernel.fs.listings.list_from(fh, 0))
    assert [(entry.name, entry.attributes.st) for entry in entries] == [(b".", kernel.st("d")), (b"..", 1), (b"f", st)]
    assert [entry.counts for entry in entries] == [False, False, True]
    assert entries[2].attributes == kernel.fs.getattr(st)


def test_an_offset_continues_right_after_its_entry(kernel):
    listings, fh = fill(kernel)
    everything = list(listings.list_from(fh, 0))
    for index, entry in enumerate(everything):
        assert names(listings.list_from(fh, entry.offset)) == names(everything[index + 1 :])


def test_removal_and_creation_neither_skip_nor_repeat_the_others(kernel):
    listings, fh = fill(kernel, 9)
    iterator = listings.list_from(fh, 0)
    seen = [next(iterator) for _ in range(5)]
    kernel.unlink("f0")
    kernel.unlink("f7")
    kernel.touch("a-new-one")
    rest = list(listings.list_from(fh, seen[-1].offset))
    assert names(seen + rest) == [b".", b"..", b"f0", b"f1", b"f2", b"f3", b"f4", b"f5", b"f6", b"f8"]


def test_a_name_that_went_away_is_never_reported_as_there(kernel):
    listings, fh = fill(kernel, 3)
    first = next(iter(listings.list_from(fh, 0)))
    kernel.rename("f1", "g")
    st = kernel.touch("f1")
    rest = {entry.name: entry.attributes.st for entry in listings.list_from(fh, first.offset)}
    assert rest[b"f1"] == st
    kernel.unlink("f2")
    assert b"f2" not in names(listings.list_from(fh, first.offset))


def test_rewinding_shows_what_is_new_and_offsets_keep_their_meaning(kernel):
    listings, fh = fill(kernel, 4)
    before = {entry.name: entry.offset for entry in listings.list_from(fh, 0)}
    kernel.unlink("f1")
    kernel.touch("a")
    after = {entry.name: entry.offset for entry in listings.list_from(fh, 0)}
    assert set(after) == {b".", b"..", b"f0", b"f2", b"f3", b"a"}
    assert all(before[name] == offset for name, offset in after.items() if name in before)
    assert after[b"a"] not in before.values()
    assert names(listings.list_from(fh, before[b"f1"])) == [b"f2", b"f3", b"a"]


def test_handles_end_and_numbers_are_not_used_twice(kernel):
    listings, fh = fill(kernel)
    listings.releasedir(fh)
    with refused(errno.EBADF):
        list(listings.list_from(fh, 0))
    assert listings.opendir(1) != fh


def test_only_directories_are_opened_as_such(kernel):
    with refused(errno.ENOTDIR):
        kernel.fs.listings.opendir(kernel.touch("f"))


def test_nothing_of_a_closed_listing_is_remembered(kernel):
    listings, fh = fill(kernel)
    other = listings.opendir(1)
    listings.releasedir(fh)
    listings.releasedir(other)
    assert not kernel.fs.names.changes
