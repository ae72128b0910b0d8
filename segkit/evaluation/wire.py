"""What JPEG on the way to a model costs: predictors whose images are compressed, as a client's are.

An image is first resized to what the model takes, so that compression is all that differs from raw.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segkit import contract
from segkit.client import RemoteSegmenter
from segkit.client.wire import decode_response
from segkit.client.wire_format import encode_jpeg, png_mask
from segkit.evaluation.predictors import Predictor
from segkit.video.resize import resize_image, resize_mask

__all__ = ["EncodingSegmenter", "JpegPredictor"]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Size = tuple[int, int]


class EncodingSegmenter(RemoteSegmenter):
    """A RemoteSegmenter that can also ask the signature `encoded`."""

    def segment_encoded(self, data: bytes) -> Mask:
        """The mask of an image file, of the image's own size.

        Args:
            data: A JPEG or PNG file.

        Returns:
            uint8, (H, W), class ids.

        Raises:
            ServerError: The model cannot be asked; the subclass says why.
        """
        request = self._encode("encoded", {contract.ENCODED_IMAGE: np.array([data], object)})
        outputs = decode_response(self._call(request))
        mask = png_mask(outputs) if contract.ENCODED_MASK in outputs else None
        if mask is None:
            raise self._mismatch("`encoded` gives no 8-bit PNG of class ids")
        return mask


class JpegPredictor:
    """Predicts what is left of an image after JPEG, see `Predictor`.

    Args:
        predictor: Predicts the decoded image.
        quality: Of the JPEG, 1..100.
        remote: Gets the JPEG itself instead, if given; it is what `predictor` asks.
    """

    def __init__(
        self, predictor: Predictor, quality: int, *, remote: EncodingSegmenter | None = None
    ) -> None:
        self.labels, self.image_size = predictor.labels, predictor.image_size
        self._predictor, self._quality, self._remote = predictor, quality, remote
        self._bytes = self._images = 0

    @property
    def bytes_an_image(self) -> float:
        """Mean length of the JPEGs so far."""
        return self._bytes / self._images

    def predict(self, image: Image, size: Size) -> Mask:
        """See `Predictor`."""
        data = encode_jpeg(resize_image(image, self.image_size or size), self._quality)
        self._bytes += len(data)
        self._images += 1
        if self._remote is not None:
            return resize_mask(self._remote.segment_encoded(data), size)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return self._predictor.predict(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)), size)
