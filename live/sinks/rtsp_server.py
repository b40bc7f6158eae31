"""Serves pictures by RTSP, as a program of its own: only the system's Python has its libraries.

    /usr/bin/python3 -I rtsp_server.py HOST PORT NAME…

Its standard input is a row of pictures, each a HEADER and its pixels; its end is the program's. It
prints one line, READY or what is wrong.
"""

from __future__ import annotations

import struct
import sys
import threading
from typing import Any, BinaryIO

READY = "ready"
MISSING = "missing: "  # before what this machine does not have
HEADER = struct.Struct("<III")  # the number of the name, width, height; 4 bytes a pixel follow
CAPS = "video/x-raw,format=RGBx,width={width},height={height},framerate=0/1"
# A client that is slow gets the newest picture. One slice a picture, in what every player decodes.
PIPELINE = (
    "( appsrc name=source is-live=true format=time do-timestamp=true max-buffers=2 "
    "leaky-type=downstream ! videoconvert ! video/x-raw,format=I420 ! x264enc threads=1 "
    "tune=zerolatency speed-preset=ultrafast key-int-max=30 ! video/x-h264,profile=baseline ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
ELEMENTS = ("appsrc", "videoconvert", "x264enc", "rtph264pay")


class Stream:
    """One path of the server, encoded once for all of its clients, and only while there are any."""

    def __init__(self, gst: Any, server: Any, name: str) -> None:
        self._gst = gst[0]
        self._sources = set[Any]()
        self._lock = threading.Lock()
        factory = gst[1].RTSPMediaFactory.new()
        factory.set_shared(True)
        factory.set_launch(PIPELINE)
        factory.connect("media-configure", self._begin)
        server.get_mount_points().add_factory(f"/{name}", factory)

    def _begin(self, _: object, media: Any) -> None:
        source = media.get_element().get_child_by_name("source")
        with self._lock:
            self._sources.add(source)
        media.connect("unprepared", lambda _: self._end(source))

    def _end(self, source: Any) -> None:
        with self._lock:
            self._sources.discard(source)

    def push(self, pixels: bytes, width: int, height: int) -> None:
        with self._lock:
            sources = list(self._sources)
        if not sources:
            return
        caps = self._gst.Caps.from_string(CAPS.format(width=width, height=height))
        for source in sources:
            buffer = self._gst.Buffer.new_wrapped(pixels)
            source.emit("push-sample", self._gst.Sample.new(buffer, caps, None, None))


def main(host: str, port: str, names: list[str]) -> str:
    """Serve until the standard input ends; returns what is wrong where that is at once."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer
    except (ImportError, ValueError) as error:
        return f"{MISSING}{error}"
    Gst.init(None)
    missing = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if missing:
        return f"{MISSING}GStreamer's {' and '.join(missing)}"
    server = GstRtspServer.RTSPServer.new()
    server.set_address(host)
    server.set_service(port)
    streams = [Stream((Gst, GstRtspServer), server, name) for name in names]
    try:
        server.create_socket(None).close()
    except GLib.Error as error:
        return str(error.message)
    if server.attach(None) == 0:
        return "it cannot listen there"
    print(READY, flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=read, args=(sys.stdin.buffer, streams, loop.quit), daemon=True).start()
    loop.run()
    return ""


def read(pipe: BinaryIO, streams: list[Stream], quit_loop: Any) -> None:
    """Hand each picture on, until there are no more."""
    try:
        while header := pipe.read(HEADER.size):
            index, width, height = HEADER.unpack(header)
            pixels = pipe.read(4 * width * height)
            if len(pixels) == 4 * width * height:
                streams[index].push(pixels, width, height)
    finally:
        quit_loop()


if __name__ == "__main__":
    problem = main(sys.argv[1], sys.argv[2], sys.argv[3:])
    if problem:
        print(problem, flush=True)
        sys.exit(1)
