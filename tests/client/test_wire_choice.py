from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from segkit.client import RAW, Answer, WireFormat
from segkit.client.wire_choice import JPEG, choose_wire
from segkit.errors import ServerUnavailable
from segkit.video.frame import Image

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Network:
    """Answers after the milliseconds of a format, on a clock of its own."""

    def __init__(self, raw_ms: float, jpeg_ms: float) -> None:
        self.now = 0.0
        self._ms = {RAW: raw_ms, JPEG: jpeg_ms}
        self.asked: list[WireFormat] = []

    def ask(self, wire: WireFormat) -> Network.Asker:
        return Network.Asker(self, wire)

    class Asker:
        def __init__(self, network: Network, wire: WireFormat) -> None:
            self._network, self._wire = network, wire

        def submit(self, image: Image) -> Future[Answer]:
            self._network.asked.append(self._wire)
            self._network.now += self._network._ms[self._wire] / 1e3
            future: Future[Answer] = Future()
            future.set_result(Answer(image[..., 0]))
            return future


@pytest.mark.parametrize(
    ("raw_ms", "jpeg_ms", "chosen"),
    [(10, 13, RAW), (10, 9, RAW), (80, 20, JPEG), (5000, 300, JPEG)],
)
def test_the_faster_one_is_chosen_and_raw_where_it_hardly_matters(
    raw_ms: float, jpeg_ms: float, chosen: WireFormat
) -> None:
    network = Network(raw_ms, jpeg_ms)
    wire, reason = choose_wire(network.ask, IMAGE, clock=lambda: network.now)
    assert wire == chosen
    assert reason == f"{chosen}: a frame takes {raw_ms:.3g} ms raw, {jpeg_ms:.3g} ms as jpeg:90"
    assert network.asked[:4] == [RAW, JPEG, RAW, JPEG]


def test_a_slow_network_is_tried_a_few_times_at_least() -> None:
    network = Network(5000, 3000)
    choose_wire(network.ask, IMAGE, clock=lambda: network.now)
    assert len(network.asked) == 2 + 2 * 3


def test_a_failure_is_raised() -> None:
    class Away:
        def submit(self, image: Image) -> Future[Answer]:
            future: Future[Answer] = Future()
            future.set_exception(ServerUnavailable("away"))
            return future

    with pytest.raises(ServerUnavailable):
        choose_wire(lambda wire: Away(), IMAGE)
