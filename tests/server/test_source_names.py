from __future__ import annotations

import pytest

from vpt_edge.server.source_names import name_sources


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://camera/stream", "camera"),
        ("rtsp://Front-Door.lan:8554/stream?channel=1", "front-door.lan"),
        ("http://192.168.1.20:80/video", "192.168.1.20"),
        ("http://192.168.1.20?stream=1", "192.168.1.20"),
        ("rtsp://[fe80::1]:554/a", "fe80-1"),
        ("/dev/video0", "video0"),
        ("/dev/v4l/by-id/usb-Cam_1-video-index0", "usb-cam_1-video-index0"),
        ("csi://0", "csi-0"),
        ("testsrc://ball", "testsrc-ball"),
        ("scenes://", "scenes"),
        ("gst://videotestsrc ! key=***", "gst"),
        (f"rtsp://{'a' * 60}/x", "a" * 32),
        ("rtsp://摄像头/x", "source"),
        ("rtsp://../x", "source"),
    ],
)
def test_a_name_is_short_and_fits_into_a_url(address: str, name: str) -> None:
    assert name_sources([address]) == [name]


def test_names_are_unique() -> None:
    addresses = ["rtsp://camera/1", "rtsp://camera/2", "rtsp://camera-2/1", "rtsp://camera/3"]
    assert name_sources(addresses) == ["camera", "camera-2", "camera-2-2", "camera-3"]
