"""SIGKILL and restart under load: clients that wait an outage out lose no frame.

The clients are segkit's own streams (`segkit.client.stream`): channel options and retries as
`predict_realtime` has them. Every frame's mask is compared with what the model says of that image.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from serving_common import (
    MODEL_NAME,
    TINY_SIZE,
    ServerProcess,
    export_tiny,
    free_port,
    machine,
    noise,
    write_record,
)

from segkit.client.remote import RemoteSegmenter
from segkit.client.stream import stream
from segkit.contract import CLASS_IDS, DEFAULT_SIGNATURE, IMAGE
from segkit.engines import open_engine
from segkit.video.frame import Frame, Image, Mask, SegmentedFrame

IMAGES = 16
MAX_OUTAGE_S = 120.0
PATIENCE_S = 120.0


@dataclass
class Client:
    """A stream of frames from start to stop, and what came of it.

    Args:
        images: What it sends in turns.
        masks: What the model says of each.
    """

    images: list[Image]
    masks: list[Mask]
    sent: int = 0
    received: int = 0
    last_at: float = 0.0
    wrong: int = 0
    retries: int = 0
    longest_gap_s: float = 0.0
    errors: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, address: str) -> None:
        """Streams until `stopping` is set."""
        try:
            with RemoteSegmenter(address, MODEL_NAME) as segmenter:
                report = stream(
                    self._frames(), segmenter, [self], max_outage_s=MAX_OUTAGE_S, window=4
                )
            self.retries = report.retries
        except Exception as err:  # the caller counts them: each is a lost stream
            self.errors.append(err)

    def write(self, segmented: SegmentedFrame) -> None:
        """Takes the next frame; see `segkit.video.frame.Sink`."""
        now = time.perf_counter()
        if self.received:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
        self.last_at = now
        index = segmented.frame.index
        right = index == self.received and np.array_equal(
            segmented.mask, self.masks[index % len(self.masks)]
        )
        self.wrong += not right
        self.received += 1

    def close(self) -> None:
        """There is nothing to close."""

    def _frames(self) -> Iterator[Frame]:
        while not self.stopping.is_set():
            yield Frame(self.images[self.sent % len(self.images)], self.sent, Fraction(0))
            self.sent += 1


def kill_repeatedly(base_path: Path, kills: int, *, clients: int, seed: int) -> list[Client]:
    """Kills the server and starts it again, while clients stream; gives the clients.

    Raises:
        TimeoutError: After a restart, a client got nothing more.
    """
    images = [noise(*TINY_SIZE, seed=number)[0] for number in range(IMAGES)]
    engine = open_engine(base_path / "1")
    masks = [engine.run(DEFAULT_SIGNATURE, {IMAGE: image[None]})[CLASS_IDS][0] for image in images]
    engine.close()
    rng = random.Random(seed)
    port = free_port()
    server = ServerProcess(base_path, port=port)
    streams = [Client(images, masks) for _ in range(clients)]
    threads = [threading.Thread(target=each.run, args=(server.address,)) for each in streams]
    try:
        for thread in threads:
            thread.start()
        for _ in range(kills):
            _wait_for_frames(streams, rng.randint(20, 200))
            server.kill()
            server = ServerProcess(base_path, port=port)
        _wait_for_frames(streams, 50)
    finally:
        for each in streams:
            each.stopping.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        server.stop()
    return streams


def _wait_for_frames(clients: list[Client], frames: int) -> None:
    """Waits until each client has got so many more."""
    wanted = [client.received + frames for client in clients]
    end = time.monotonic() + PATIENCE_S
    while any(c.received < n for c, n in zip(clients, wanted, strict=True)):
        if any(client.errors for client in clients):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{[client.received for client in clients]} of {wanted} frames")
        time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/serving_kills.json")
    )
    options = parser.parse_args()

    record = {**machine(), "kills": options.kills, "clients": options.clients}
    with tempfile.TemporaryDirectory(prefix="segkit-kills-") as folder:
        export_tiny(Path(folder))
        begin = time.perf_counter()
        streams = kill_repeatedly(
            Path(folder), options.kills, clients=options.clients, seed=options.seed
        )
        seconds = time.perf_counter() - begin
    sent, received, wrong, retries = (
        sum(getattr(each, name) for each in streams)
        for name in ("sent", "received", "wrong", "retries")
    )
    errors = [str(error) for each in streams for error in each.errors]
    gap_s = max(each.longest_gap_s for each in streams)
    record |= {
        "seconds": seconds,
        "sent": sent,
        "received": received,
        "wrong": wrong,
        "retries": retries,
        "errors": errors,
        "longest_gap_s": gap_s,
    }
    print(f"{record['command']}\n{record['machine']}")
    print(
        f"{options.kills} kills under {options.clients} streams in {seconds:.0f} s: {sent:,} "
        f"frames sent, {sent - received} lost, {wrong} wrong or out of order, {retries} requests "
        f"sent again, longest wait {gap_s:.1f} s"
    )
    print("\n".join(errors))
    write_record(record, options.output)
    return int(bool(errors or wrong or sent != received))


if __name__ == "__main__":
    raise SystemExit(main())
