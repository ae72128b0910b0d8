"""RecordedSource: every frame of what has a beginning and an end, by PyAV."""

from __future__ import annotations

import itertools
import logging
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.video.frame import Frame, VideoInfo
from segkit.video.sources.base import OpenSource
from segkit.video.sources.decoding import to_image

__all__ = ["EXPECTED", "RecordedSource"]

logger = logging.getLogger(__name__)

EXPECTED = "a video that FFmpeg can decode, such as an .mp4 with H.264"
FALLBACK_RATE = Fraction(25)  # of files that name none, such as bare H.264
TIMELESS = "avi"  # notes no times of its pictures: those of reordered ones are guessed as they come
LONGEST_REORDERING_S = 2  # from a packet to one that is shown before it


class RecordedSource(OpenSource):
    """The frames of a recording, in order, none left out. A base of what can be opened anew.

    The first frame is decoded at once, so that what cannot be read fails here and not behind work
    already done. Rotation that a phone notes beside the pixels is applied.

    Args:
        start: Seconds from the first frame. Frames before are not given, though some are decoded;
            indices and times are counted from the recording's first frame all the same.

    Raises:
        VideoError: It has no frame that can be decoded.
    """

    def __init__(self, *, start: Fraction = Fraction(0)) -> None:
        self._container, self._stream = self._open()
        try:
            self._decoded = self._decode(self._demux())
            first = next(self._decoded, None)
            if first is None:
                raise VideoError(
                    f"the video '{self.name}' has no frame that can be decoded",
                    expected=EXPECTED,
                    next_step="record or convert the video again",
                )
            self._first = first
            image = to_image(first, first)
            rate = self._stream.average_rate or self._stream.guessed_rate or FALLBACK_RATE
            self._info = VideoInfo(
                height=image.shape[0],
                width=image.shape[1],
                rate=Fraction(rate),
                time_base=Fraction(self._stream.time_base or 1 / rate),
                num_frames=self._stream.frames,
            )
            self._start, self._begin = start, 0
            if start > 0 and first.pts is not None and self._container.format.name != TIMELESS:
                self._skip(first.pts + ceil(start / self._info.time_base))
            else:
                self._decoded = itertools.chain([first], self._decoded)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> VideoInfo:
        """Size and rate of the frames."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            VideoError: It cannot be read on.
        """
        index, time = self._begin, Fraction(-1)
        for decoded in self._decoded:
            time = self._time(decoded, index=index, previous=time)
            if time >= self._start:
                yield Frame(to_image(decoded, self._first), index, time)
            index += 1
        if index < self._info.num_frames:
            logger.warning(
                "'%s' declares %d frames, but only %d could be decoded",
                self.name,
                self._info.num_frames,
                index,
            )

    def close(self) -> None:
        """Closes it."""
        self._container.close()

    @abstractmethod
    def _open(self) -> tuple[InputContainer, VideoStream]:
        """Opens it, from its beginning.

        Raises:
            VideoError: It cannot be opened.
        """

    @abstractmethod
    def _broken(self, err: av.FFmpegError) -> VideoError:
        """What to say where it cannot be read to its end."""

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError as err:
            raise self._broken(err) from None  # FFmpeg's own text may hold a password

    def _decode(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """All frames; a damaged packet is skipped, as players do, and counted at the end."""
        for packet in packets:
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                continue

    def _skip(self, target: int) -> None:
        """Goes on with the first frame at or after a time of the stream, counting those before.

        They are counted by their packets, and decoded only from the last keyframe on.
        """
        self._container.close()
        self._container, self._stream = self._open()
        late = ceil(LONGEST_REORDERING_S / self._info.time_base)
        times = self._packet_times()
        if times:
            self._container.seek(max(times[0], target - late), stream=self._stream)
        packets = self._demux()
        kept: list[Packet[VideoStream]] = []
        for number, packet in enumerate(packets):
            if number == 0 and times and packet.dts is not None:
                self._begin = bisect_left(times, packet.dts)
            if packet.pts is not None and packet.pts <= target and packet.is_keyframe:
                kept.clear()
            kept.append(packet)
            if packet.pts is None:
                continue
            if packet.pts < target and not packet.is_discard:
                self._begin += 1
            if (packet.pts - late if packet.dts is None else packet.dts) > target:
                break
        self._decoded = itertools.dropwhile(
            lambda frame: frame.pts is not None and frame.pts < target,
            self._decode(itertools.chain(kept, packets)),
        )

    def _packet_times(self) -> list[int]:
        """When each packet is decoded; nothing where the container does not list all of them.

        Then the number of frames before a place is not known, and what is before must be read.
        """
        entries = list(self._stream.index_entries)
        if len(entries) != self._stream.frames:
            return []
        return [entry.timestamp for entry in entries if not entry.is_discard]

    def _time(self, frame: VideoFrame, *, index: int, previous: Fraction) -> Fraction:
        """Seconds since the first frame, always more than that of the frame before."""
        if frame.pts is None or self._first.pts is None:
            time = index / self._info.rate
        else:
            time = (frame.pts - self._first.pts) * self._info.time_base
        return time if time > previous else previous + self._info.time_base
