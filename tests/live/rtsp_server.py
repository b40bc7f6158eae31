"""A real RTSP server on 127.0.0.1, of gst-rtsp-server: run it with Debian's /usr/bin/python3.

    /usr/bin/python3 tests/live/rtsp_server.py 8554 [--login user:password] [--digest]

/stream: a ball, live, H.264; /large: the same, larger; /sound: with sound; /clock: the monotonic
clock in milliseconds, as 40 blocks from left to right, the lowest bit first, white for 1; its size
and rate are options. Prints "ready".
"""

from __future__ import annotations

import argparse
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

# One slice a picture: the payloader puts its headers before each slice of a key frame, and FFmpeg
# takes what follows a header for a picture of its own.
ENCODER = (
    "x264enc threads=1 tune=zerolatency speed-preset=ultrafast key-int-max={rate} ! "
    "video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=-1"
)
VIDEO = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},"
    f"framerate={{rate}}/1 ! {ENCODER}"
)
CLOCK = (
    "appsrc name=source is-live=true format=time do-timestamp=true caps=video/x-raw,format=GRAY8,"
    "width={width},height={height},framerate={rate}/1 ! queue max-size-buffers=2 leaky=downstream "
    f"! videoconvert ! {ENCODER}"
)
BITS = 40  # of the clock
SOUND = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8"
STREAMS = {
    "/stream": VIDEO.format(width=160, height=90, rate=15),
    "/large": VIDEO.format(width=320, height=180, rate=15),
    "/sound": f"{VIDEO.format(width=160, height=90, rate=15)} {SOUND}",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--login")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--swap", action="store_true", help="/stream is as large as /large")
    parser.add_argument("--size", default="320x180", help="of /clock")
    parser.add_argument("--rate", type=int, default=15, help="of /clock")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    if options.swap:
        STREAMS["/stream"] = STREAMS["/large"]
    factories = {path: make_factory(pipeline) for path, pipeline in STREAMS.items()}
    width, height = map(int, options.size.split("x"))
    factories["/clock"] = make_clock(width, height, options.rate)
    if options.login:
        server.set_auth(make_auth(options.login, options.digest))
    for path, factory in factories.items():
        if options.login:
            factory.set_permissions(make_permissions())
        server.get_mount_points().add_factory(path, factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


def make_factory(pipeline: str) -> GstRtspServer.RTSPMediaFactory:
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_shared(True)
    factory.set_launch(f"( {pipeline} )")
    return factory


def make_clock(width: int, height: int, rate: int) -> GstRtspServer.RTSPMediaFactory:
    factory = make_factory(CLOCK.format(width=width, height=height, rate=rate))

    def begin(_: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("source")

        def draw() -> bool:
            buffer = Gst.Buffer.new_wrapped(draw_clock(width, height))
            return bool(source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)

        GLib.timeout_add(1000 // rate, draw)

    factory.connect("media-configure", begin)
    return factory


def draw_clock(width: int, height: int) -> bytes:
    """A grey picture with the clock on top, in blocks a fortieth of the width wide and high."""
    milliseconds = time.monotonic_ns() // 1_000_000
    block = width // BITS
    levels = bytes(235 if milliseconds >> bit & 1 else 16 for bit in range(BITS))
    row = b"".join(bytes([level]) * block for level in levels).ljust(width, b"\x10")
    return row * block + b"\x80" * (width * (height - block))


def make_auth(login: str, digest: bool) -> GstRtspServer.RTSPAuth:
    user, _, password = login.partition(":")
    auth = GstRtspServer.RTSPAuth.new()
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "user")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    return auth


def make_permissions() -> GstRtspServer.RTSPPermissions:
    permissions = GstRtspServer.RTSPPermissions.new()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    return permissions


if __name__ == "__main__":
    main()
