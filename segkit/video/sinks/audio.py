"""AudioTrack: the sound of a file, copied into another beside the frames that were kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from segkit.errors import VideoError

__all__ = ["AudioTrack"]

logger = logging.getLogger(__name__)

AudioPacket: TypeAlias = "Packet[AudioStream]"  # a generic only to the type checker


class AudioTrack:
    """Copies the packets of a file's first sound track, in step with the frames.

    Nothing is encoded anew unless the container does not take the codec. The sound is cut at
    packets (21 ms in AAC), never moved: it stays exactly where the frames have it.

    Args:
        path: The file, which the frames come from too; one without sound is said once, and gives
            none.

    Raises:
        VideoError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._output: OutputContainer | None = None
        self._encodes = False
        self._next: AudioPacket | AudioFrame | None = None
        try:
            self._origin = _first_frame_time(path)
            self._container: InputContainer = av.open(str(path))
        except (av.FFmpegError, OSError) as err:
            raise _unreadable(path, err) from err
        self._source = next(iter(self._container.streams.audio), None)
        if self._source is None:
            logger.warning("'%s' has no sound to copy", path)

    def begin(self, output: OutputContainer, first: Fraction) -> None:
        """Adds a stream for the sound, before the header is written.

        Args:
            output: The file that is written.
            first: The time of its first frame.
        """
        if self._source is None:
            return
        self._output = output
        self._begin = self._origin + first  # of the file's own time: 0 of the output
        codec = self._source.codec_context.name
        if codec in output.supported_codecs:
            stream = output.add_stream_from_template(self._source)
            assert isinstance(stream, AudioStream)
            self._stream = stream
        else:
            logger.warning(
                "the sound of '%s' is %s, which '%s' files do not take: it is encoded as AAC",
                self._path,
                codec,
                output.format.name,
            )
            self._stream = output.add_stream("aac", rate=self._source.rate)
            self._stream.layout = self._source.layout.name
            self._encodes = True
        self._pieces = self._read()
        self._next = next(self._pieces, None)

    def copy(self, until: Fraction) -> None:
        """Writes what sounds before that time of the frames.

        Raises:
            VideoError: The file cannot be read on.
        """
        while self._next is not None and _time(self._next) < self._origin + until:
            if _time(self._next) >= self._begin:
                self._write(self._next)
            self._next = next(self._pieces, None)

    def finish(self) -> None:
        """Writes what an encoder still holds."""
        if self._encodes:
            assert self._output is not None
            self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        """Closes the file the sound comes from."""
        self._container.close()

    def _read(self) -> Iterator[AudioPacket | AudioFrame]:
        """What is copied: packets, or frames where they are encoded anew. From a little before."""
        assert self._source is not None
        try:
            if self._begin > self._origin:
                place = int(self._begin / Fraction(self._source.time_base or 1))
                self._container.seek(place, stream=self._source)
            for packet in self._container.demux(self._source):
                if not self._encodes:
                    if packet.pts is not None:
                        yield packet
                    continue
                try:
                    yield from packet.decode()
                except av.InvalidDataError:
                    continue  # a damaged packet is silent, as in players
        except (av.FFmpegError, OSError) as err:
            raise _unreadable(self._path, err) from err

    def _write(self, piece: AudioPacket | AudioFrame) -> None:
        assert self._output is not None
        offset = round(self._begin / Fraction(piece.time_base or 1))
        piece.pts = (piece.pts or 0) - offset
        if isinstance(piece, AudioFrame):
            self._output.mux(self._stream.encode(piece))
        else:
            piece.dts = (piece.dts or 0) - offset
            piece.stream = self._stream
            self._output.mux(piece)


def _time(piece: AudioPacket | AudioFrame) -> Fraction:
    """Seconds in the time of its file."""
    return (piece.pts or 0) * Fraction(piece.time_base or 1)


def _first_frame_time(path: Path) -> Fraction:
    """The time of the first picture of a file, where its frames begin to be counted."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0) if container.streams.video else ():
            return Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
    return Fraction(0)


def _unreadable(path: Path, err: av.FFmpegError | OSError) -> VideoError:
    return VideoError(
        f"the sound of '{path}' cannot be read ({err.strerror or err})",
        expected="a file with a sound track",
        next_step="correct the path, or leave out --audio",
    )
