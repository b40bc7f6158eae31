"""What a question is about: pictures that came with it, or the newest frame of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import ImageError, SourceError
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.server.service import Askable, Service
    from vpt_edge.server.shot import Shot

SOURCE = "source:"


@dataclass(frozen=True)
class Subject:
    """``picture`` is asked about; it is a ``shot`` where it was taken of a source."""

    picture: Askable
    shot: Shot | None = None

    def conclude(self) -> dict[str, Any]:
        """What is said of it with the complete answer."""
        if self.shot is None:
            return {}
        return {"frame": self.shot.conclude()}


async def open_subject(service: Service, addresses: Sequence[str], arrival: float) -> Subject:
    """What ``addresses`` name: ``source:NAME`` is a frame that was captured since ``arrival``, on
    the monotonic clock, and is asked about alone.

    Raises RequestError for what is not there, not a picture, or not allowed.
    """
    first, *others = addresses
    if others and any(address.startswith(SOURCE) for address in addresses):
        problem = "a frame of a source is asked about alone, and here are more pictures"
        raise RequestError(400, "too_many_images", problem, param="messages")
    if not first.startswith(SOURCE):
        files = await load_files(service, addresses)
        return Subject(await service.open_pictures(files))
    return await open_shot(service, first, arrival)


async def load_files(service: Service, addresses: Sequence[str]) -> list[bytes]:
    """The files of the pictures. Raises RequestError where they are too large together."""
    files = list[bytes]()
    limit = service.settings.max_body
    for address in addresses:
        files.append(await service.pictures.load(address))
        if sum(map(len, files)) > limit:
            problem = f"the pictures have more than {limit} bytes together"
            raise RequestError(400, "image_too_large", problem, "send fewer", param="messages")
    return files


async def open_shot(service: Service, address: str, arrival: float) -> Subject:
    """The frame that ``address`` names."""
    pipeline = service.pipeline
    source = service.watching.find(address.removeprefix(SOURCE))
    shot = await source.shoot(arrival)
    try:
        picture = await shot.still.picture(pipeline.encode)
    except SourceError as error:
        raise RequestError(503, "source_unavailable", error.problem, param="messages") from error
    except ImageError as error:
        raise RequestError(
            400, "invalid_image_format", error.problem, error.fix, param="messages"
        ) from error
    return Subject(picture, shot)
