from __future__ import annotations

import cv2
import numpy as np
import pytest

from segkit.client.wire_format import encode_jpeg
from segkit.errors import ContractMismatch
from segkit.evaluation.predictors import SegmenterPredictor
from segkit.evaluation.wire import EncodingSegmenter, JpegPredictor
from segkit.labels import LabelMap

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 256, (64, 96, 3), np.uint8)


class Keeps:
    """Keeps the image that it was asked about."""

    def __init__(self, labels: LabelMap, image_size: tuple[int, int] | None) -> None:
        self.labels, self.image_size = labels, image_size

    def predict(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        self.image = image
        return np.zeros(size, np.uint8)


def test_the_model_sees_what_jpeg_leaves(labels: LabelMap) -> None:
    keeps = Keeps(labels, (64, 96))
    predictor = JpegPredictor(keeps, 40)
    assert predictor.predict(IMAGE, (64, 96)).shape == (64, 96)
    data = encode_jpeg(IMAGE, 40)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(keeps.image, decoded)
    assert predictor.bytes_an_image == len(data)


def test_red_stays_red(labels: LabelMap) -> None:
    keeps = Keeps(labels, (16, 16))
    JpegPredictor(keeps, 95).predict(np.full((16, 16, 3), (200, 30, 10), np.uint8), (16, 16))
    np.testing.assert_allclose(keeps.image[8, 8], (200, 30, 10), atol=4)


def test_an_image_is_resized_before_it_is_compressed(labels: LabelMap) -> None:
    keeps = Keeps(labels, (32, 48))
    predictor = JpegPredictor(keeps, 90)
    assert predictor.predict(IMAGE, (64, 96)).shape == (64, 96)
    assert keeps.image.shape == (32, 48, 3)


def test_lower_quality_takes_fewer_bytes() -> None:
    assert len(encode_jpeg(IMAGE, 20)) < len(encode_jpeg(IMAGE, 80))


def test_a_server_gets_the_file_itself(running_server: str) -> None:
    """A PNG, which loses nothing: the answer is that to the raw image."""
    data = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()
    with EncodingSegmenter(running_server) as remote:
        assert isinstance(remote, EncodingSegmenter)
        expected = remote.segment(IMAGE[None])[0]
        np.testing.assert_array_equal(remote.segment_encoded(data), expected)


def test_jpegs_travel_to_a_server(running_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    original = EncodingSegmenter.segment_encoded

    def spy(self: EncodingSegmenter, data: bytes) -> np.ndarray:
        sent.append(data)
        return original(self, data)

    monkeypatch.setattr(EncodingSegmenter, "segment_encoded", spy)
    remote = EncodingSegmenter(running_server)
    with remote:
        predictor = JpegPredictor(SegmenterPredictor(remote), 70, remote=remote)
        assert predictor.predict(IMAGE, (128, 192)).shape == (128, 192)
    assert sent == [encode_jpeg(IMAGE, 70)]


def test_a_reply_without_a_mask_is_no_answer(
    running_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segkit.evaluation.wire.decode_response", lambda reply: {})
    with EncodingSegmenter(running_server) as remote:
        assert isinstance(remote, EncodingSegmenter)
        with pytest.raises(ContractMismatch, match="gives no 8-bit PNG"):
            remote.segment_encoded(encode_jpeg(IMAGE, 70))
