"""A segment cannot be resized, a reader cannot write the writer's, and nothing is left of it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

from aioshm import SegmentError
from aioshm.shm.layout import MAGIC_WORD, VERSION, VERSION_WORD
from aioshm.shm.segment import Segment
from tests.helpers import descriptors, mappings

NBYTES = 8192
FUTURE_WRITE = 0x10


@pytest.fixture
def segment() -> Iterator[Segment]:
    """Give a new segment, as a writer makes it."""
    made = Segment.create("aioshm-test", NBYTES, words=256)
    yield made
    made.close()


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a kernel that does not know F_SEAL_FUTURE_WRITE."""
    real = fcntl.fcntl

    def without(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_ADD_SEALS and argument & FUTURE_WRITE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, argument)

    monkeypatch.setattr("aioshm.shm.segment.fcntl.fcntl", without)


def attach(segment: Segment, **changes: Any) -> Segment:
    """Attach to a segment as another process does, by a descriptor of its own."""
    options = {"nbytes": NBYTES, "writable": False, "words": 256, **changes}
    return Segment.attach(os.dup(segment.fileno()), **options)


def unsealed(nbytes: int = NBYTES) -> int:
    """Make a memfd that somebody forgot to seal."""
    fd = os.memfd_create("aioshm-unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, nbytes)
    return fd


# -- making one ----------------------------------------------------------------------


def test_a_new_segment_is_all_zeroes_behind_its_magic(segment: Segment) -> None:
    assert segment.raw[16:] == bytes(NBYTES - 16)
    assert segment.words[VERSION_WORD] == VERSION
    assert segment.raw[:6] == b"aioshm"


def test_all_its_memory_is_there_at_once(segment: Segment) -> None:
    assert os.fstat(segment.fileno()).st_blocks * 512 >= NBYTES


def test_a_full_machine_says_so_when_the_segment_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = descriptors()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        Segment.create("aioshm-test", NBYTES, words=256)
    assert caught.value.errno == errno.ENOSPC
    assert descriptors() == before


def test_more_than_the_machine_has_is_refused_before_any_of_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "memfd_create", None)
    with pytest.raises(OSError, match="and this machine has.*max_chunk_bytes") as caught:
        Segment.create("aioshm-test", 1 << 60, words=256)
    assert caught.value.errno == errno.ENOMEM


def test_a_segment_that_cannot_be_mapped_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    before = descriptors()
    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(OSError, match="Cannot allocate"):
        Segment.create("aioshm-test", NBYTES, words=256)
    assert descriptors() == before


def test_a_segment_has_no_name_in_any_file_system(segment: Segment) -> None:
    assert os.fstat(segment.fileno()).st_nlink == 0


def test_a_segment_does_not_reach_a_program_that_is_started(segment: Segment) -> None:
    assert not os.get_inheritable(segment.fileno())


# -- seals ---------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, NBYTES - 4096, NBYTES + 4096])
def test_nobody_can_resize_it(segment: Segment, nbytes: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fileno(), nbytes)


@pytest.mark.parametrize("future_writes", [True, False])
def test_nobody_can_seal_it_further(segment: Segment, future_writes: bool) -> None:
    segment.seal(future_writes=future_writes)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_sealed_segment_cannot_be_mapped_for_writing(segment: Segment) -> None:
    segment.seal(future_writes=True)
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fileno(), NBYTES)


def test_a_sealed_segment_cannot_be_mapped_for_writing_by_a_detour(segment: Segment) -> None:
    segment.seal(future_writes=True)
    fd = os.open(f"/proc/self/fd/{segment.fileno()}", os.O_RDWR)
    with pytest.raises(PermissionError):
        mmap.mmap(fd, NBYTES)
    os.close(fd)


def test_a_sealed_segment_cannot_be_written_as_a_file(segment: Segment) -> None:
    segment.seal(future_writes=True)
    with pytest.raises(PermissionError):
        os.pwrite(segment.fileno(), b"x", 0)


def test_a_readers_mapping_cannot_be_made_writable(segment: Segment) -> None:
    segment.seal(future_writes=True)
    with pytest.raises(PermissionError):
        attach(segment, writable=True)


def test_the_writers_own_mapping_goes_on(segment: Segment) -> None:
    segment.seal(future_writes=True)
    reader = attach(segment)
    segment.words[20] = 2**64 - 1
    assert reader.words[20] == 2**64 - 1
    reader.close()


def test_the_readers_segment_stays_writable_for_readers(segment: Segment) -> None:
    segment.seal(future_writes=False)
    reader = attach(segment, writable=True)
    reader.words[20] = 5
    assert segment.words[20] == 5
    reader.close()


def test_a_refused_seal_is_not_passed_over_in_silence(segment: Segment) -> None:
    fcntl.fcntl(segment.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    with pytest.raises(PermissionError):
        segment.seal(future_writes=True)


# -- an old kernel -------------------------------------------------------------------


@pytest.mark.usefixtures("old_kernel")
def test_without_the_seal_a_read_only_descriptor_is_passed_on(segment: Segment) -> None:
    segment.seal(future_writes=True)
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fileno(), NBYTES)
    with pytest.raises(PermissionError):
        attach(segment, writable=True)


@pytest.mark.usefixtures("old_kernel")
def test_without_the_seal_readers_still_see_what_is_written(segment: Segment) -> None:
    segment.seal(future_writes=True)
    reader = attach(segment)
    segment.words[20] = 6
    assert reader.words[20] == 6
    reader.close()


@pytest.mark.usefixtures("old_kernel")
def test_without_the_seal_the_writable_descriptor_is_gone(segment: Segment) -> None:
    before = descriptors()
    segment.seal(future_writes=True)
    assert len(descriptors()) == len(before)
    assert fcntl.fcntl(segment.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert not os.get_inheritable(segment.fileno())


@pytest.mark.usefixtures("old_kernel")
def test_without_the_seal_nobody_can_resize_or_seal_it_either(segment: Segment) -> None:
    writable = os.dup(segment.fileno())
    segment.seal(future_writes=True)
    for command in (os.ftruncate, lambda fd, n: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, n)):
        with pytest.raises(PermissionError):
            command(writable, fcntl.F_SEAL_WRITE)
    os.close(writable)


# -- attaching to one ----------------------------------------------------------------


def test_a_reader_sees_the_same_memory_and_cannot_write_it(segment: Segment) -> None:
    segment.words[20] = 7
    reader = attach(segment)
    assert reader.words[20] == 7
    with pytest.raises(TypeError):
        reader.words[20] = 8
    reader.close()


@pytest.mark.parametrize("nbytes", [NBYTES - 4096, NBYTES + 4096, NBYTES - 1])
def test_another_size_than_announced_is_refused(segment: Segment, nbytes: int) -> None:
    before = descriptors()
    with pytest.raises(SegmentError, match=f"{NBYTES} bytes where {nbytes}"):
        attach(segment, nbytes=nbytes)
    assert descriptors() == before


@pytest.mark.parametrize("word", [MAGIC_WORD, VERSION_WORD])
def test_another_magic_or_version_is_refused(segment: Segment, word: int) -> None:
    before, maps = descriptors(), mappings()
    segment.words[word] += 1
    with pytest.raises(SegmentError, match=r"magic .* version .* expected"):
        attach(segment)
    assert descriptors() == before
    assert mappings() == maps


def test_memory_that_may_shrink_is_refused() -> None:
    before = descriptors()
    with pytest.raises(SegmentError, match="not sealed"):
        Segment.attach(unsealed(), NBYTES, writable=False, words=256)
    assert descriptors() == before


def test_a_descriptor_of_something_else_is_refused() -> None:
    before = descriptors()
    with pytest.raises(SegmentError):
        Segment.attach(os.eventfd(0), NBYTES, writable=False, words=256)
    assert descriptors() == before


# -- closing one ---------------------------------------------------------------------


def test_closing_gives_descriptor_and_mapping_back(segment: Segment) -> None:
    number, maps = str(segment.fileno()), mappings()
    segment.close()
    assert number not in descriptors()
    assert len(mappings()) == len(maps) - 1


def test_closing_twice_does_nothing(segment: Segment) -> None:
    segment.close()
    segment.close()
    assert segment.fileno() == -1


def test_without_its_descriptor_the_mapping_goes_on(segment: Segment) -> None:
    segment.close_fd()
    segment.close_fd()
    segment.words[20] = 9
    assert segment.words[20] == 9


def test_views_that_are_still_alive_stay_valid(segment: Segment) -> None:
    segment.raw[100:105] = b"hello"
    view = memoryview(segment.raw)[100:105]
    segment.close()
    assert bytes(view) == b"hello"
    assert mappings()


def test_the_mapping_goes_with_the_last_view() -> None:
    before = mappings()
    segment = Segment.create("aioshm-test", NBYTES, words=256)
    view = memoryview(segment.raw)[100:105]
    segment.close()
    del segment
    assert len(mappings()) == len(before) + 1
    view.release()
    del view
    assert mappings() == before


def test_words_and_flags_are_taken_back_by_closing(segment: Segment) -> None:
    flags = segment.flags(slice(128, 136))
    flags[3] = 1
    assert segment.raw[131] == 1
    words = segment.words
    segment.close()
    for view in (flags, words):
        with pytest.raises(ValueError, match="released"):
            view[0]


def test_another_holder_of_the_mapping_is_counted(segment: Segment) -> None:
    alone = segment.holders()
    view = memoryview(segment.raw)[10:20]
    assert segment.holders() > alone
    view.release()
    assert segment.holders() == alone
