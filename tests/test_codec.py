"""Objects come through the codec bit for bit, large buffers beside the stream, nothing shared."""

from __future__ import annotations

import array
import itertools
import pickle
from collections.abc import Sequence
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
