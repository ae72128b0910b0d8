"""Segments one image by a running model server and writes the overlay."""

import sys
from pathlib import Path

import cv2

from segkit.client import Credentials, RemoteSegmenter
from segkit.video import Overlay
from segkit.video.resize import resize_mask

if len(sys.argv) not in (3, 4, 7):
    sys.exit("usage: python tf_serving_sample.py IMAGE OVERLAY.png [HOST:PORT [CA CERT KEY]]")
image_path, overlay_path, server = (*sys.argv[1:], "127.0.0.1:8500")[:3]
files = [Path(name) for name in sys.argv[4:]]  # given: the connection is TLS, both sides proved
credentials = Credentials(ca=files[0], cert=files[1], key=files[2]) if files else None

image = cv2.imread(image_path)
if image is None:
    sys.exit(f"'{image_path}' is no image that OpenCV can read")
image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

with RemoteSegmenter(server, model_name="segkit", credentials=credentials) as segmenter:
    labels = segmenter.describe().labels  # class names and colours travel with the model
    masks = segmenter.segment(image[None])  # (1, H, W, 3) in, (1, h, w) class ids out

mask = resize_mask(masks[0], image.shape[:2])
for class_id, name in enumerate(labels.names):
    print(f"{name:<20} {(mask == class_id).mean():6.1%}")

picture = Overlay(labels, opacity=0.5)(image, mask)
if not cv2.imwrite(overlay_path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
    sys.exit(f"'{overlay_path}' cannot be written")
print(f"wrote {overlay_path}")
