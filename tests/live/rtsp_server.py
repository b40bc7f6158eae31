"""A real RTSP server on 127.0.0.1, of gst-rtsp-server: run it with Debian's /usr/bin/python3.

    /usr/bin/python3 tests/live/rtsp_server.py 8554 [--login user:password] [--digest]

/stream: a ball, live, H.264; /large: the same, larger; /sound: with sound. Prints "ready".
"""

from __future__ import annotations

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

VIDEO = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},"
    "framerate=15/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! "
    "video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=-1"
)
SOUND = "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8"
STREAMS = {
    "/stream": VIDEO.format(width=160, height=90),
    "/large": VIDEO.format(width=320, height=180),
    "/sound": f"{VIDEO.format(width=160, height=90)} {SOUND}",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--login")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--swap", action="store_true", help="/stream is as large as /large")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    if options.swap:
        STREAMS["/stream"] = STREAMS["/large"]
    factories = {path: make_factory(pipeline) for path, pipeline in STREAMS.items()}
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
