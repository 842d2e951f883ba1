"""Readers that are admitted by their HELLO: who gets in, who comes back, and what they are told."""

from __future__ import annotations

import pytest

from aioshm.links import flow_remote, flow_wire
from aioshm.links.flow import Breach, Receiver
from aioshm.links.flow_remote import CLOSED, FAREWELL, Joined, Left
from aioshm.links.flow_wire import START, Ack, Goodbye, Hello
from tests.remote_flows import KEY, RemoteEnds


def hello(
    rank: int,
    session: int,
    consumed: int = START,
    position: tuple[int, int] = (0, 0),
    *,
    key: bytes = KEY,
    connection: int = 9,
) -> list[bytes]:
    """A HELLO as a reader would send it."""
    tag = flow_wire.reader_tag(key, rank, session)
    return [flow_wire.pack_hello(Hello(tag, rank, session, connection, consumed, position))]


# -- who gets in ---------------------------------------------------------------------


def test_a_hello_admits_and_every_message_from_then_on_is_for_its_reader() -> None:
    ends = RemoteEnds()
    ends.write()
    assert ends.sender.messages == 0  # nobody is there
    reader = ends.join(0, pid=4711)
    assert ends.events() == [Joined(0, 4711)]
    ends.write(b"first")
    ends.run()
    state = reader.receiver.state
    assert state is not None
    assert (reader.receiver.consumed, state.first, state.first_number) == (1, 1, 1)
    assert reader.receiver.body(0) is None
    assert reader.receiver.body(1) == [b"first"]
    assert ends.sender.messages == 1


def test_who_does_not_know_the_key_is_a_stranger_and_counted() -> None:
    ends = RemoteEnds()
    found = ends.sender.received(b"stranger", hello(0, 1, key=bytes(32)))
    assert isinstance(found, Breach)
    assert "a stranger says that it is rank 0" in found.reason
    assert ends.sender.breaches == 1
    assert ends.events() == []
    assert list(ends.sender.outgoing()) == []
    ends.join(0)
    assert ends.events() == [Joined(0, 0)]


def test_a_rank_that_is_not_remote_is_refused_and_told_which_there_are() -> None:
    ends = RemoteEnds(3, 1)
    reader = ends.join(2)
    assert reader.receiver.refused == "there is no remote rank 2; there are [1, 3]"
    assert ends.events() == []
    assert ends.sender.breaches == 0


def test_a_rank_with_a_live_reader_is_refused_to_another_session() -> None:
    ends = RemoteEnds()
    first = ends.join(0, session=1)
    second = ends.join(0, session=2)
    assert second.receiver.refused is not None
    assert "rank 0 is taken" in second.receiver.refused
    assert ends.events() == [Joined(0, 0)]
    ends.write(b"for the first")
    ends.run()
    assert first.receiver.body(0) == [b"for the first"]
    assert second.receiver.body(0) is None


def test_a_rank_whose_reader_is_only_away_is_refused_too() -> None:
    ends = RemoteEnds()
    ends.join(0, session=1).cut()
    assert ends.sender.lost_ranks == [0]
    assert ends.join(0, session=2).receiver.refused is not None


def test_two_readers_on_one_connection_are_a_breach() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    found = ends.sender.received(reader.route, hello(1, 101))
    assert isinstance(found, Breach)
    assert "rank 1 on the connection of rank 0" in found.reason
    assert ends.events() == [Joined(0, 0)]


@pytest.mark.parametrize(
    ("consumed", "position"), [(7, (7, 0)), (0, (0, 1)), (0, (9, 0)), (1, (0, 0))]
)
def test_a_newcomer_that_asks_for_what_there_is_not_gets_no_rank(
    consumed: int, position: tuple[int, int]
) -> None:
    ends = RemoteEnds()
    assert isinstance(ends.sender.received(b"liar", hello(0, 1, consumed, position)), Breach)
    assert ends.events() == []
    assert ends.sender.lost_ranks == []
    ends.sender.evict(0)  # there is nobody
    ends.join(0, session=2)
    assert ends.events() == [Joined(0, 0)]


def test_acks_and_goodbyes_of_strangers_are_breaches() -> None:
    ends = RemoteEnds()
    ends.join(0)
    for number, frame in enumerate(
        (flow_wire.pack_ack(Ack(bytes(16), 0, (0, 0))), flow_wire.pack_goodbye(Goodbye(bytes(16))))
    ):
        assert isinstance(ends.sender.received(b"stranger %d" % number, [frame]), Breach)
    assert ends.sender.breaches == 2
    assert (ends.sender.live_ranks, ends.sender.lost_ranks) == ([0], [])


def test_a_goodbye_with_the_tag_of_another_session_is_a_breach_and_frees_nothing() -> None:
    ends = RemoteEnds()
    reader = ends.join(0, session=1)
    frame = flow_wire.pack_goodbye(Goodbye(flow_wire.reader_tag(KEY, 0, 2)))
    found = ends.sender.received(reader.route, [frame])
    assert isinstance(found, Breach)
    assert "another session" in found.reason
    assert ends.events() == [Joined(0, 0)]
    assert ends.sender.lost_ranks == [0]


# -- who comes back ------------------------------------------------------------------


def test_the_same_session_on_a_new_connection_goes_on_and_does_not_join_again() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write(b"one")
    ends.run()
    reader.cut()
    ends.write(b"two")
    reader.connect()
    ends.run()
    assert [reader.receiver.body(n) for n in (0, 1)] == [[b"one"], [b"two"]]
    assert ends.events() == [Joined(0, 0)]
    assert (ends.sender.live_ranks, ends.sender.lost_ranks) == ([0], [])


def test_a_reader_that_was_given_up_comes_back_and_lost_nothing() -> None:
    ends = RemoteEnds()
    reader = ends.join(0, pid=7)
    ends.write(b"one")
    reader.cut()
    ends.sender.give_up(0)
    assert ends.sender.dead == {0}
    assert ends.sender.lost_ranks == []
    assert ends.sender.messages == 1
    reader.connect()
    ends.run()
    assert ends.sender.dead == set()
    assert ends.events() == [Joined(0, 7), Joined(0, 7)]
    assert reader.receiver.body(0) == [b"one"]
    assert reader.receiver.floor == 0


def test_the_dead_are_not_revived_by_a_hello_that_is_read_late() -> None:
    ends = RemoteEnds()
    reader = ends.reader(0)
    (late,) = reader.say()
    reader.connect()
    ends.run()
    reader.cut()
    ends.sender.give_up(0)
    assert ends.sender.received(b"route 1", [late]) is None
    assert ends.sender.dead == {0}
    assert ends.events() == [Joined(0, 0)]


def test_the_rank_of_the_dead_goes_to_another_session_which_begins_with_the_next_message() -> None:
    ends = RemoteEnds()
    old = ends.join(0, session=1)
    ends.write(b"unread")
    old.cut()
    ends.sender.give_up(0)
    new = ends.join(0, session=2, pid=8)
    assert ends.sender.dead == set()
    assert ends.sender.messages == 0
    assert ends.events() == [Joined(0, 0), Joined(0, 8)]
    ends.write(b"next")
    ends.run()
    assert new.receiver.consumed == 1
    assert new.receiver.state is not None
    assert new.receiver.state.first_number == 1
    assert new.receiver.body(1) == [b"next"]
    old.connect()
    ends.run()
    assert old.receiver.refused is not None
    assert "taken" in old.receiver.refused


def test_who_was_let_go_comes_back_and_sees_by_the_numbers_what_it_missed() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write(b"0")
    ends.run()
    reader.receiver.consume(0)
    ends.run()
    reader.cut()
    ends.write(b"1")
    ends.sender.let_go(0)
    assert ends.sender.messages == 0
    ends.write(b"2")
    reader.connect()
    ends.run()
    assert ends.events() == [Joined(0, 0), Joined(0, 0)]
    receiver = reader.receiver
    assert [receiver.is_lost(n) for n in range(4)] == [True, True, True, False]
    assert receiver.floor == receiver.after_gap(1) == 3
    assert receiver.state is not None
    assert (receiver.state.first, receiver.state.first_number) == (3, 3)
    ends.write(b"3")
    ends.run()
    assert receiver.body(3) == [b"3"]
    receiver.consume(3)
    ends.run()
    assert ends.sender.messages == 0
    assert receiver.breaches == ends.sender.breaches == 0


def test_an_ack_of_a_reader_that_does_not_know_yet_what_it_missed_is_no_breach() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write(b"0")
    ends.run()
    reader.cut()
    ends.write(b"1")
    ends.sender.let_go(0)
    reader.connect()
    (hello,) = reader.say()
    assert ends.sender.received(reader.route, [hello]) is None
    # Its program took the first one before the answer came.
    reader.receiver.consume(0)
    (ack,) = reader.say()
    assert ends.sender.received(reader.route, [ack]) is None
    ends.write(b"2")
    ends.run()
    assert reader.receiver.body(2) == [b"2"]
    assert ends.sender.breaches == 0


def test_what_came_between_two_gaps_is_not_lost() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    for round_ in range(2):
        reader.cut()
        ends.write(b"missed")
        ends.sender.let_go(0)
        reader.connect()
        ends.run()
        ends.write(b"%d" % round_)
        ends.run()
    receiver = reader.receiver
    assert [receiver.is_lost(n) for n in range(4)] == [True, False, True, False]
    assert (receiver.after_gap(0), receiver.after_gap(2)) == (1, 3)
    assert receiver.body(1) == [b"0"]


# -- who has to leave ----------------------------------------------------------------


def test_an_evicted_reader_is_told_so_and_its_session_is_shut_out() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write()
    ends.sender.evict(0)
    assert ends.sender.messages == 0
    ends.run()
    assert reader.receiver.refused == "the writer went on without this reader"
    reader.receiver.refused = None
    reader.connect()
    ends.run()
    assert reader.receiver.refused == "the writer went on without this reader"
    assert ends.events() == [Joined(0, 0)]
    assert ends.join(0, session=2).receiver.refused is None


def test_an_evicted_reader_that_was_away_is_told_when_it_is_back() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    reader.cut()
    ends.sender.evict(0)
    reader.connect()
    ends.run()
    assert reader.receiver.refused == "the writer went on without this reader"
    assert ends.sender.live_ranks == []


def test_what_an_evicted_reader_still_sends_is_late_and_no_breach() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write()
    ends.run()
    reader.receiver.consume(0)
    ends.sender.evict(0)
    (frame,) = reader.say()
    assert ends.sender.received(reader.route, [frame]) is None
    assert ends.sender.breaches == 0


def test_an_ack_of_an_evicted_reader_ahead_of_its_hello_does_not_keep_it_from_being_told() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write()
    ends.run()
    reader.cut()
    ends.sender.evict(0)
    reader.receiver.consume(0)
    (frame,) = reader.say()
    assert ends.sender.received(b"route 2", [frame]) is None
    reader.connect()
    ends.run()
    assert reader.route == b"route 2"
    assert reader.receiver.refused == "the writer went on without this reader"


def test_sessions_that_ended_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_remote, "_SESSIONS", 4)
    ends = RemoteEnds()
    for session in range(1, 11):
        ends.join(0, session=session)
        ends.sender.evict(0)
    assert list(ends.sender._shut_out) == [7, 8, 9, 10]


def test_goodbye_frees_the_rank_and_is_answered() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.write()
    reader.receiver.goodbye()
    ends.run()
    assert reader.receiver.refused == FAREWELL
    assert ends.events() == [Joined(0, 0), Left(0)]
    assert ends.sender.messages == 0
    ends.join(0, session=2)
    assert ends.events() == [Joined(0, 0)]


def test_a_goodbye_whose_answer_was_lost_with_the_connection_is_answered_again() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    reader.receiver.goodbye()
    (frame,) = reader.say()
    assert ends.sender.received(reader.route, [frame]) is None
    reader.connect()
    ends.run()
    assert reader.receiver.refused == FAREWELL
    assert ends.events() == [Joined(0, 0), Left(0)]


def test_a_goodbye_that_was_lost_with_the_connection_is_said_again() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    reader.receiver.goodbye()
    reader.say()
    reader.cut()
    reader.connect()
    ends.run()
    assert reader.receiver.refused == FAREWELL
    assert ends.events() == [Joined(0, 0), Left(0)]


def test_a_goodbye_ahead_of_the_hello_on_a_new_connection_is_no_breach() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    reader.receiver.goodbye()
    (frame,) = reader.say()
    reader.connect()  # and the reader does not know of it when it says goodbye there
    assert ends.sender.received(reader.route, [frame]) is None
    ends.run()
    assert reader.receiver.refused == FAREWELL
    assert ends.sender.breaches == 0


# -- the state of the queue ------------------------------------------------------------


def test_all_are_told_that_the_queue_is_ready_and_those_who_join_later_too() -> None:
    ends = RemoteEnds()
    readers = [ends.join(0), ends.join(1)]
    for reader in readers:
        assert reader.receiver.state is not None
        assert not reader.receiver.state.ready
    ends.sender.tell(ready=True)
    ends.run()
    ends.sender.let_go(1)
    readers.append(ends.join(1, session=5))
    for reader in readers:
        assert reader.receiver.state is not None
        assert reader.receiver.state.ready


def test_all_are_told_that_the_queue_is_closed_and_where_it_ends() -> None:
    ends = RemoteEnds()
    here, away = ends.join(0), ends.join(1)
    away.cut()
    for _ in range(3):
        ends.write()
    ends.sender.tell(ready=True, closed=True)
    away.connect()
    ends.run()
    for reader in (here, away):
        state = reader.receiver.state
        assert state is not None
        assert (state.closed, state.next, state.number) == (True, 3, 3)
        assert reader.receiver.body(2) is not None


def test_a_closed_queue_lets_nobody_new_in() -> None:
    ends = RemoteEnds()
    ends.sender.tell(ready=True, closed=True)
    assert ends.join(0).receiver.refused == CLOSED
    assert ends.events() == []


def test_an_older_state_that_comes_late_changes_nothing() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    ends.sender.probe()
    ((_, old),) = ends.sender.outgoing()
    ends.sender.tell(ready=True, closed=True)
    ends.run()
    assert reader.receiver.received(old) is None
    assert reader.receiver.state is not None
    assert reader.receiver.state.closed


def test_to_probe_is_to_tell_every_connected_reader_once_more() -> None:
    ends = RemoteEnds(0, 1, 2)
    ends.join(0)
    ends.join(1).cut()
    ends.join(2)
    ends.sender.probe()
    routes = [route for route, _ in ends.sender.outgoing()]
    assert sorted(routes) == [b"route 1", b"route 3"]
    assert list(ends.sender.outgoing()) == []


def test_what_is_gathered_is_appended_before_anything_is_sent() -> None:
    ends = RemoteEnds()
    reader = ends.join(0)
    appended: list[int] = []

    def gather(now: bool) -> bool:
        assert not now
        if not appended:
            appended.append(ends.write(b"gathered"))
        return False

    ends.sender.gather = gather
    ends.run()
    assert reader.receiver.body(appended[0]) == [b"gathered"]


def test_what_is_gathered_when_a_reader_joins_is_not_for_it() -> None:
    ends = RemoteEnds(0, 1)
    first = ends.join(0)
    appended: list[int] = []

    def gather(now: bool) -> bool:
        if now:
            appended.append(ends.write(b"before"))
        return not now

    ends.sender.gather = gather
    second = ends.join(1)
    assert len(appended) == 1
    assert first.receiver.body(appended[0]) == [b"before"]
    assert second.receiver.consumed == appended[0] + 1


# -- who is how far ------------------------------------------------------------------


def test_progress_and_cursors_grow_as_readers_move() -> None:
    ends = RemoteEnds()
    quick, slow = ends.join(0), ends.join(1)
    slow.cut()
    for _ in range(3):
        ends.write(b"12345678")  # 20 bytes with its table
    ends.run()
    assert ends.sender.progress(0) == ends.sender.progress(1) == (0, 60)
    assert ends.sender.slowest() == [0, 1]
    before = ends.sender.cursor(0)
    quick.receiver.consume(1)
    ends.run()
    assert ends.sender.cursor(0) > before
    assert ends.sender.cursor(1) == 0
    assert ends.sender.progress(0) == (40, 20)
    assert ends.sender.slowest() == [1]
    assert ends.sender.first == 0
    ends.sender.let_go(1)
    assert ends.sender.first == 2
    assert ends.sender.slowest() == [0]


def test_the_dead_keep_what_is_for_them_until_they_are_let_go() -> None:
    ends = RemoteEnds()
    ends.join(0).cut()
    ends.write()
    ends.sender.give_up(0)
    assert ends.sender.messages == 1
    ends.sender.let_go(0)
    assert (ends.sender.messages, ends.sender.dead) == (0, set())


def test_a_receiver_that_was_told_where_to_begin_may_be_told_so_again() -> None:
    ends = RemoteEnds()
    receiver = Receiver(0, KEY, 1, 0)
    receiver.connected()
    frame = receiver.outgoing()
    assert frame is not None
    assert ends.sender.received(b"route", [frame]) is None
    assert ends.events() == [Joined(0, 0)]


def test_the_live_are_those_that_were_not_given_up() -> None:
    ends = RemoteEnds(0, 1, 2)
    ends.join(0)
    ends.join(1).cut()
    ends.join(2).cut()
    ends.sender.give_up(2)
    assert (ends.sender.live_ranks, ends.sender.lost_ranks) == ([0, 1], [1])
