"""The window by itself, against a camera, a way and a queue in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from segkit.client.window import LARGEST, LIVE, RECORDED, AdaptiveWindow, FixedWindow


@dataclass
class World:
    """A source, a way there and back, and a server that answers one after another.

    `fps` None is a file, of which a frame always waits.
    """

    service_s: float
    rtt_s: float
    fps: float | None = 30.0
    jitter: float = 0.0
    now: float = 0.0
    free_at: float = 0.0
    under_way: int = 0
    newest: float | None = None
    replies: int = 0
    ages: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    _events: list[tuple[float, int, tuple[float, float] | None]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _random: random.Random = field(default_factory=lambda: random.Random(5))

    def run(self, window: AdaptiveWindow, seconds: float) -> World:
        end = self.now + seconds
        self._at(self.now, None)
        while self._events and self._events[0][0] < end:
            self.now, _, reply = heapq.heappop(self._events)
            if reply is None:
                self.newest = self.now
                if self.fps is not None:
                    self._at(self.now + 1 / self.fps, None)
            else:
                sent, captured = reply
                limited = self.newest is not None and self.under_way >= window.size
                window.replied(sent, self.now, limited=limited)
                self.under_way -= 1
                self.replies += 1
                self.ages.append(self.now - captured)
                self.sizes.append(window.size)
            while self.newest is not None and self.under_way < window.size:
                self._send()
        return self

    def _send(self) -> None:
        assert self.newest is not None
        captured, self.newest = self.newest, None if self.fps else self.now
        self.under_way += 1
        begins = max(self.now + self._way_s(), self.free_at)
        self.free_at = begins + self.service_s
        self._at(self.free_at + self._way_s(), (self.now, captured))

    def _way_s(self) -> float:
        return self.rtt_s / 2 * (1 + self.jitter * self._random.expovariate(1))

    def _at(self, when: float, reply: tuple[float, float] | None) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), reply))

    def share_of_capacity(self) -> float:
        most = min(self.fps or float("inf"), 1 / self.service_s) * self.now
        return self.replies / most

    def age(self, share: float) -> float:
        later = sorted(self.ages[len(self.ages) // 10 :])
        return later[int(share * (len(later) - 1))]


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("rtt_s", [0.0, 0.04, 0.35])
@pytest.mark.parametrize("service_s", [0.02, 0.05])
def test_live_one_rule_fills_every_way_and_lets_nothing_get_old(
    service_s: float, rtt_s: float, jitter: float
) -> None:
    world = World(service_s, rtt_s, jitter=jitter).run(AdaptiveWindow(LIVE), 120)
    assert world.share_of_capacity() >= (0.95 if not jitter else 0.93)
    unavoidable = rtt_s * (1 + 4 * jitter) + service_s
    assert world.age(0.99) <= unavoidable + 4 * service_s


def test_live_an_overloaded_server_next_door_answers_in_a_quarter_of_a_second() -> None:
    world = World(0.05, 0.0).run(AdaptiveWindow(LIVE), 120)
    assert world.age(0.99) <= 0.25
    first, last = world.ages[200:400], world.ages[-200:]
    assert sum(last) <= 1.25 * sum(first)  # no growth, within a cycle of the window


@pytest.mark.parametrize("rtt_s", [0.0, 0.04, 0.35])
def test_recorded_the_server_never_waits(rtt_s: float) -> None:
    world = World(0.02, rtt_s, fps=None).run(AdaptiveWindow(RECORDED), 120)
    assert world.share_of_capacity() >= 0.95
    assert max(world.sizes[-1000:]) <= rtt_s / 0.02 + 10


def test_a_server_that_keeps_up_needs_one_request_at_a_time() -> None:
    world = World(0.005, 0.0).run(AdaptiveWindow(LIVE), 20)
    assert set(world.sizes) == {1}


def test_it_doubles_each_round_trip_at_first() -> None:
    window = AdaptiveWindow(LIVE)
    World(0.005, 0.35, fps=200).run(window, 4 * 0.37)
    assert window.size >= 12


def test_it_shrinks_when_the_server_gets_slower() -> None:
    window, world = AdaptiveWindow(LIVE), World(0.01, 0.1, fps=100)
    world.run(window, 20)
    before = max(world.sizes[-50:])
    world.service_s = 0.05
    world.run(window, 20)
    assert max(world.sizes[-50:]) <= before / 2


def test_a_longer_route_is_learned() -> None:
    """The shortest round trip drifts, so that a server that moved away is not taken for a queue."""
    window, world = AdaptiveWindow(LIVE), World(0.02, 0.02)
    world.run(window, 20)
    world.rtt_s = 0.2
    world.run(window, 240)
    assert min(world.sizes[-100:]) >= 6


def test_a_reply_that_never_came_shrinks_it_once_a_round_trip() -> None:
    window = AdaptiveWindow(LIVE)
    world = World(0.02, 0.35, fps=100).run(window, 20)
    before = window.size
    for later in (0.0, 0.01, 0.02):
        window.missed(world.now + later)
    assert window.size == round(0.7 * before)
    window.missed(world.now + 1)
    assert window.size <= 0.55 * before


def test_it_never_leaves_its_bounds() -> None:
    window = AdaptiveWindow(LIVE, servers=2)
    assert window.size == 2
    for now_s in range(100):
        window.missed(float(now_s))
    assert window.size == 2
    for reply in range(10_000):
        window.replied(200.0 + reply, 200.1 + reply, limited=True)
    assert window.size == LARGEST


def test_a_fixed_window_learns_nothing() -> None:
    window = FixedWindow(5)
    window.replied(0.0, 1.0, limited=True)
    window.missed(2.0)
    assert window.size == 5
