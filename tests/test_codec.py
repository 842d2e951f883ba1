"""Objects come through the codec bit for bit, large buffers beside the stream, nothing shared."""

from __future__ import annotations

import array
import gc
import itertools
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioshm import PickleCodec
from aioshm.codec import Buffer
from aioshm.shm.layout import SMALLEST_FRAME

THRESHOLD = 8192
"""Bytes from which a buffer travels beside the stream."""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Unpicklable:
    """Something that says no to pickle."""

    def __reduce__(self) -> str:
        raise RuntimeError("not me")


def through_a_ring(frames: Sequence[Buffer]) -> list[Buffer]:
    """Copy frames as a ring does: the stream as bytes, the others writable."""
    return [bytes(frames[0]), *(bytearray(frame) for frame in frames[1:])]


def there_and_back(obj: Any) -> Any:
    """Encode, copy as a ring does, decode."""
    codec = PickleCodec()
    return codec.decode(through_a_ring(codec.encode(obj)))


def same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays agree in type, shape and every bit, NaNs included."""
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@settings(deadline=None)
@given(plain)
def test_plain_objects_come_back_equal_in_a_single_frame(obj: Any) -> None:
    frames = PickleCodec().encode(obj)
    assert len(frames) == 1
    assert there_and_back(obj) == obj


def test_frames_are_byte_buffers_whose_length_is_their_size() -> None:
    frames = PickleCodec().encode([np.zeros((300, 10)), np.zeros((50, 50), order="F")])
    assert [len(frame) for frame in frames[1:]] == [24_000, 20_000]
    assert all(memoryview(frame).nbytes == len(frame) for frame in frames)
    assert all(memoryview(frame).c_contiguous for frame in frames)


def test_a_buffer_leaves_the_stream_from_the_threshold_on() -> None:
    for nbytes in (0, 1, 4096, THRESHOLD - 1, THRESHOLD, 100_000):
        made = np.arange(nbytes).astype(np.uint8)
        assert len(PickleCodec().encode(made)) == (2 if nbytes >= THRESHOLD else 1)
        assert same_bits(there_and_back(made), made)


def test_a_buffer_beside_the_stream_is_not_copied_by_encoding() -> None:
    source = np.zeros(THRESHOLD, np.uint8)
    _, frame = PickleCodec().encode(source)
    source[0] = 77
    assert frame[0] == 77


def test_every_frame_is_as_large_as_a_slot_reckons_with() -> None:
    assert THRESHOLD >= SMALLEST_FRAME


DTYPES = ["u1", "<i8", ">i2", "f2", "c16", "M8[ns]", "i4,f8", "U7", "?"]


def test_arrays_of_every_kind_come_back_bit_for_bit() -> None:
    for dtype, length in itertools.product(DTYPES, (0, 3, 5000)):
        made = np.zeros(length, dtype)
        if dtype not in ("U7", "?"):  # which not all bits are legal in
            made.view(np.uint8)[:] = np.arange(made.nbytes) % 251
        assert same_bits(there_and_back(made), made)


def test_not_a_number_keeps_its_payload() -> None:
    odd = np.full(2000, 0x7FF8_DEAD_BEEF_0001, np.uint64).view(np.float64)
    assert same_bits(there_and_back(odd), odd)


def test_several_arrays_keep_their_order() -> None:
    sent = {str(i): np.full(THRESHOLD, i, np.uint8) for i in range(9)}
    got = there_and_back(sent)
    assert all(same_bits(got[key], sent[key]) for key in sent)


@pytest.mark.parametrize("length", [10, 50_000])
def test_views_that_are_not_contiguous_come_back_equal(length: int) -> None:
    for cut in (np.s_[::2], np.s_[::-1], np.s_[5:]):
        view = np.arange(length)[cut]
        assert same_bits(there_and_back(view), view)


def test_a_transposed_array_comes_back_equal() -> None:
    made = np.arange(30_000).reshape(100, 300).T
    assert np.array_equal(there_and_back(made), made)


@pytest.mark.parametrize("length", [10, 50_000])
def test_a_writable_array_comes_back_writable(length: int) -> None:
    got = there_and_back(np.zeros(length, np.uint8))
    got[0] = 1
    assert got[0] == 1


@pytest.mark.parametrize("length", [10, 50_000])
def test_a_readonly_array_comes_back_readonly(length: int) -> None:
    source = np.zeros(length, np.uint8)
    source.flags.writeable = False
    assert not there_and_back(source).flags.writeable


@pytest.mark.parametrize("length", [10, 50_000])
def test_what_comes_back_shares_no_memory_with_what_was_sent(length: int) -> None:
    source = np.zeros(length, np.uint8)
    got = there_and_back(source)
    assert not np.shares_memory(got, source)
    source[:] = 9
    assert not got.any()


def test_large_arrays_decode_without_another_copy() -> None:
    codec = PickleCodec()
    frames = through_a_ring(codec.encode(np.zeros(50_000, np.uint8)))
    got = codec.decode(frames)
    assert np.shares_memory(got, np.frombuffer(frames[1], np.uint8))


def test_byte_strings_keep_their_type() -> None:
    for kind, length in itertools.product((bytes, bytearray), (0, 100, 50_000)):
        got = there_and_back(kind(b"x" * length))
        assert type(got) is kind
        assert got == b"x" * length


def test_pickle_buffers_of_any_size_come_back() -> None:
    for nbytes in (0, 10, 50_000):
        got = there_and_back(pickle.PickleBuffer(bytearray(b"y" * nbytes)))
        assert bytes(got) == b"y" * nbytes


def test_an_array_of_the_standard_library_comes_back() -> None:
    assert there_and_back(array.array("d", range(5000))) == array.array("d", range(5000))


def test_what_cannot_be_pickled_raises_its_own_error() -> None:
    with pytest.raises(RuntimeError, match="not me"):
        PickleCodec().encode([np.zeros(THRESHOLD), Unpicklable()])


def test_garbage_raises_and_gives_nothing() -> None:
    for garbage in (b"", b"garbage", b"\x80\x05."):
        with pytest.raises((pickle.UnpicklingError, EOFError, IndexError)):
            PickleCodec().decode([garbage])


def test_a_missing_frame_raises() -> None:
    frames = PickleCodec().encode([np.zeros(THRESHOLD), np.ones(THRESHOLD)])
    with pytest.raises(pickle.UnpicklingError):
        PickleCodec().decode(frames[:2])


def test_the_codec_itself_can_be_pickled_and_shown() -> None:
    codec = pickle.loads(pickle.dumps(PickleCodec()))
    assert codec.decode(codec.encode("x")) == "x"
    assert repr(codec) == "PickleCodec()"


class Encodes:
    """Something that encodes another object while it is being pickled itself."""

    def __init__(self, before: object, other: object, after: object) -> None:
        self.parts = before, other, after
        self.frames: Sequence[Buffer] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        before, other, after = self.parts
        return tuple, ([before, Then(self, other), after],)


class Then:
    """The moment of a pickling at which another object is encoded."""

    def __init__(self, owner: Encodes, other: object) -> None:
        self.owner, self.other = owner, other

    def __reduce__(self) -> tuple[Any, ...]:
        self.owner.frames = PickleCodec().encode(self.other)
        return str, ("then",)


def test_an_object_that_encodes_another_while_it_is_pickled_mixes_up_nothing() -> None:
    mine, others = np.full(THRESHOLD, 1, np.uint8), np.full(THRESHOLD, 2, np.uint8)
    both = Encodes(mine, [others, others + 1], mine + 2)
    before, then, after = there_and_back(both)
    assert (before[0], then, after[0]) == (1, "then", 3)
    one, other = PickleCodec().decode(through_a_ring(both.frames))
    assert (one[0], other[0]) == (2, 3)


def test_what_failed_to_encode_leaves_nothing_to_the_next() -> None:
    codec = PickleCodec()
    with pytest.raises(RuntimeError, match="not me"):
        codec.encode([np.zeros(THRESHOLD, np.uint8), Unpicklable()])
    assert len(codec.encode("next")) == 1
    assert len(codec.encode(np.zeros(THRESHOLD, np.uint8))) == 2


class Dying:
    """Garbage whose finalizer encodes something large."""

    def __init__(self, said: list[Sequence[Buffer]]) -> None:
        self.me, self.said = self, said

    def __del__(self) -> None:
        self.said.append(PickleCodec().encode(pickle.PickleBuffer(b"B" * THRESHOLD)))


def test_a_finalizer_that_encodes_at_any_allocation_mixes_up_nothing() -> None:
    codec, large, before = PickleCodec(), pickle.PickleBuffer(b"A" * THRESHOLD), gc.get_threshold()
    said: list[Sequence[Buffer]] = []
    gc.disable()
    gc.freeze()
    try:
        for allocations in range(1, 40):
            gc.collect()
            Dying(said)
            gc.set_threshold(allocations)
            gc.enable()
            frames = codec.encode(large)
            gc.disable()
            assert bytes(codec.decode(through_a_ring(frames))) == large.raw()
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.enable()
        gc.collect()
    assert len(said) == 39
    for frames in said:
        assert bytes(codec.decode(through_a_ring(frames))) == b"B" * THRESHOLD


def test_threads_that_encode_at_once_mix_up_nothing() -> None:
    codec = PickleCodec()

    def work(number: int) -> bool:
        array = np.full(THRESHOLD, number, np.uint8)
        for _ in range(300):
            slow = [array, Slow(), array + 1]
            one, _, other = codec.decode(through_a_ring(codec.encode(slow)))
            if (one[0], other[0]) != (number, number + 1):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(0, 40, 10)))


class Slow:
    """Something whose pickling lets other threads run."""

    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(0)
        return str, ("slow",)
