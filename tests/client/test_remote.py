"""RemoteSegmenter against a server that fails as told, and against the embedded one."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from segkit.client import RemoteSegmenter, WireFormat
from segkit.client.remote import REOPEN_AFTER_TIMEOUTS
from segkit.contract import Metadata
from segkit.errors import (
    ConfigError,
    ContractMismatch,
    ModelNotFound,
    PredictionTimeout,
    ServerError,
    ServerUnavailable,
)

SIZE = (64, 96)


def images(count: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.stack([np.full((*size, 3), value, np.uint8) for value in range(count)])


def test_masks_come_back_at_the_models_size(fake_server: Any) -> None:
    with RemoteSegmenter(fake_server.address) as segmenter:
        masks = segmenter.segment(images(3, (100, 200)))
    assert masks.shape == (3, *SIZE)
    assert [int(mask[0, 0]) for mask in masks] == [0, 1, 2]


def test_many_requests_may_be_under_way(fake_server: Any) -> None:
    all_here = threading.Barrier(3, timeout=20)

    def answer(context: Any, batch: np.ndarray) -> np.ndarray:
        all_here.wait()
        return batch[..., 0]

    fake_server.answer = answer
    with RemoteSegmenter(fake_server.address) as segmenter:
        futures = [segmenter.submit(image) for image in images(3)]
        masks = [future.result(timeout=20).mask for future in futures]
    assert [int(mask[0, 0]) for mask in masks] == [0, 1, 2]
    assert masks[0].shape == SIZE


def test_metadata_is_asked_for_once(fake_server: Any, tiny_metadata: Metadata) -> None:
    with RemoteSegmenter(fake_server.address) as segmenter:
        first = segmenter.describe()
        fake_server.metadata_json = b"not asked for again"
        assert segmenter.describe() is first
    assert first == tiny_metadata


def test_a_server_that_is_not_there_is_named(unused_port: int) -> None:
    with (
        RemoteSegmenter(f"127.0.0.1:{unused_port}") as segmenter,
        pytest.raises(ServerUnavailable) as caught,
    ):
        segmenter.describe()
    assert f"127.0.0.1:{unused_port} cannot be reached" in str(caught.value)
    assert "python -m segkit serve" in caught.value.next_step


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="host:port"):
        RemoteSegmenter("127.0.0.1")


def test_an_unknown_model_is_answered_with_what_is_served(fake_server: Any) -> None:
    fake_server.models = "streets,rooms"
    with (
        RemoteSegmenter(fake_server.address, "nope") as segmenter,
        pytest.raises(ModelNotFound) as caught,
    ):
        segmenter.describe()
    assert "does not serve 'nope'" in caught.value.problem
    assert caught.value.expected == "one of the models served there: streets, rooms"


def test_an_unknown_model_of_a_server_that_lists_nothing(fake_server: Any) -> None:
    with (
        RemoteSegmenter(fake_server.address, "nope") as segmenter,
        pytest.raises(ModelNotFound) as caught,
    ):
        segmenter.describe()
    assert "'segkit', which is served there" in caught.value.expected
    assert "--model_name nope" in caught.value.next_step


def test_an_unknown_version_is_answered_with_those_available(fake_server: Any) -> None:
    with (
        RemoteSegmenter(fake_server.address, version=9) as segmenter,
        pytest.raises(ModelNotFound, match="1, 4") as caught,
    ):
        segmenter.describe()
    assert "5" not in caught.value.expected  # it is still loading


def test_a_model_that_vanishes_is_explained_to_a_future_too(fake_server: Any) -> None:
    with RemoteSegmenter(fake_server.address) as segmenter:
        segmenter.describe()
        fake_server._check_name = lambda spec, context: context.abort(
            grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(segkit)"
        )
        future = segmenter.submit(images()[0])
        with pytest.raises(ModelNotFound, match="Latest"):
            future.result(timeout=20)


def test_a_slow_server_is_a_timeout(fake_server: Any) -> None:
    done = threading.Event()
    fake_server.answer = lambda context, batch: done.wait(20) and batch[..., 0]
    with RemoteSegmenter(fake_server.address) as segmenter:
        segmenter.describe()
        segmenter._timeout_s = 0.2
        with pytest.raises(PredictionTimeout, match="did not answer in time"):
            segmenter.segment(images())
        with pytest.raises(PredictionTimeout):
            segmenter.submit(images()[0]).result(timeout=20)
        done.set()


def test_a_large_request_survives_a_blip(fake_server: Any) -> None:
    """Over 256 KiB gRPC's own retry does nothing unless it is given room."""

    def answer(context: Any, batch: np.ndarray) -> np.ndarray:
        if fake_server.requests == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return batch[..., 0]

    record = dataclasses.replace(Metadata.from_json(fake_server.metadata_json, source=""))
    large = dataclasses.replace(record, image_size=(480, 640))
    fake_server.metadata_json = large.to_json().encode()
    fake_server.answer = answer
    with RemoteSegmenter(fake_server.address) as segmenter:
        assert segmenter.segment(images(1, (480, 640))).shape == (1, 480, 640)
    assert fake_server.requests == 2


@pytest.mark.parametrize(
    "ids", [np.zeros((1, 8, 8), np.uint8), np.zeros((1, *SIZE), np.int32)], ids=["shape", "dtype"]
)
def test_a_reply_of_another_kind_is_a_contract_mismatch(fake_server: Any, ids: np.ndarray) -> None:
    fake_server.answer = lambda context, batch: ids
    with RemoteSegmenter(fake_server.address) as segmenter:
        with pytest.raises(ContractMismatch, match="class_ids"):
            segmenter.segment(images())
        with pytest.raises(ContractMismatch, match="segkit export"):
            segmenter.submit(images()[0]).result(timeout=20)


def test_a_model_that_is_not_segkits_is_a_contract_mismatch(fake_server: Any) -> None:
    fake_server.metadata_json = b'{"name": "resnet"}'
    with (
        RemoteSegmenter(fake_server.address) as segmenter,
        pytest.raises(ContractMismatch, match="does not describe itself"),
    ):
        segmenter.describe()


def test_closing_fails_what_is_under_way(fake_server: Any) -> None:
    done = threading.Event()
    fake_server.answer = lambda context, batch: done.wait(20) and batch[..., 0]
    segmenter = RemoteSegmenter(fake_server.address)
    future = segmenter.submit(images()[0])
    segmenter.close()
    with pytest.raises(ServerError):
        future.result(timeout=20)
    done.set()


def test_images_of_another_kind_are_refused(fake_server: Any) -> None:
    with RemoteSegmenter(fake_server.address) as segmenter:
        with pytest.raises(ValueError, match="float32"):
            segmenter.segment(images().astype(np.float32))
        with pytest.raises(ValueError, match="not uint8"):
            segmenter.segment(images()[0])


def test_embedded_server_answers_as_the_model_does(running_server: str, tiny_model: Any) -> None:
    rng = np.random.default_rng(4)
    batch = rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    expected = np.argmax(tiny_model.predict(batch.astype(np.float32), verbose=0), axis=-1)
    with RemoteSegmenter(running_server) as segmenter:
        np.testing.assert_array_equal(segmenter.segment(batch), expected)
        assert segmenter.describe().labels.names == ("background", "road", "car")


def test_embedded_server_says_what_it_serves(running_server: str) -> None:
    with (
        RemoteSegmenter(running_server, "nope") as segmenter,
        pytest.raises(ModelNotFound) as caught,
    ):
        segmenter.describe()
    assert caught.value.expected == "one of the models served there: segkit"


def test_a_label_that_no_version_has_is_named(running_server: str) -> None:
    with (
        RemoteSegmenter(running_server, label="stable") as segmenter,
        pytest.raises(ModelNotFound, match="no version of 'segkit' labelled 'stable'") as caught,
    ):
        segmenter.describe()
    assert "segkit rollout" in caught.value.next_step


def test_a_version_and_a_label_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="version 1 and the label 'stable'"):
        RemoteSegmenter("127.0.0.1:1", version=1, label="stable")


def test_images_may_travel_as_jpeg_and_masks_as_png(fake_server: Any) -> None:
    image = np.full((100, 200, 3), 1, np.uint8)
    with RemoteSegmenter(fake_server.address, wire=WireFormat.parse("jpeg:85")) as segmenter:
        answer = segmenter.submit(image).result(timeout=20)
    assert answer.mask.shape == SIZE and answer.mask.dtype == np.uint8
    assert (answer.mask == 1).all()
    assert 0 < answer.sent_bytes < 2000  # 18,432 raw
    assert 0 < answer.received_bytes < 2000


def test_a_reply_of_another_png_is_a_contract_mismatch(fake_server: Any) -> None:
    fake_server.answer = lambda context, batch: np.zeros((1, 8, 8), np.uint8)
    with (
        RemoteSegmenter(fake_server.address, wire=WireFormat(90)) as segmenter,
        pytest.raises(ContractMismatch, match="'encoded_mask' is no PNG of 96x64 class ids"),
    ):
        segmenter.submit(images()[0]).result(timeout=20)


def test_the_confidence_comes_with_the_mask_where_it_is_wanted(fake_server: Any) -> None:
    with RemoteSegmenter(fake_server.address, confidence=True) as segmenter:
        answer = segmenter.submit(images(3)[2]).result(timeout=20)
    assert (answer.mask == 2).all()
    assert answer.confidence is not None and (answer.confidence == 253).all()


def test_a_jpeg_has_no_confidence(fake_server: Any) -> None:
    with pytest.raises(ConfigError, match="the confidence is wanted, and images travel as jpeg:90"):
        RemoteSegmenter(fake_server.address, confidence=True, wire=WireFormat(90))


@pytest.mark.parametrize("text", ["jpeg", "jpeg:0", "jpeg:101", "png", "auto", ""])
def test_another_wire_format_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--wire is"):
        WireFormat.parse(text)
    assert str(WireFormat.parse("jpeg:7")) == "jpeg:7"
    assert str(WireFormat.parse("raw")) == "raw"


def test_a_connection_that_has_gone_silent_is_opened_again(
    fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segkit.client.remote.REOPEN_PAUSE_S", 0.0)
    done = threading.Event()
    fake_server.answer = lambda context, batch: done.wait(20) and batch[..., 0]
    with RemoteSegmenter(fake_server.address) as segmenter:
        segmenter.describe()
        first = segmenter._channel
        for _ in range(REOPEN_AFTER_TIMEOUTS):
            with pytest.raises(PredictionTimeout):
                segmenter.submit(images()[0], timeout_s=0.05).result(timeout=20)
        assert segmenter._channel is not first
        done.set()
        assert segmenter.submit(images()[0]).result(timeout=20).mask.shape == SIZE
