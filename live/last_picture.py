"""The picture that was asked about last, for frames that show nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpt_edge.live.change import ChangeGate

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpt_edge.live.frame import Frame
    from vpt_edge.runtime.encoded_picture import EncodedPicture


class LastPicture:
    """The encoded picture of a frame, kept as long as later ones do not differ from that frame.

    So its visual tokens stay, and the keys and values of a question that was asked last. A frame
    differs by ``threshold`` as for ``ChangeGate``; None: nothing is kept.
    """

    def __init__(self, threshold: float | None = None) -> None:
        self.same_as: Frame | None = None  # whose picture stands for the frame that is shown
        self._frame: Frame | None = None  # whose picture it is
        self._picture: EncodedPicture | None = None
        self._gate = None
        if threshold is not None:
            self._gate = ChangeGate(threshold)

    def show(self, frame: Frame, encode: Callable[[], EncodedPicture]) -> EncodedPicture:
        """The picture that stands for ``frame``, kept or from ``encode``."""
        self.same_as = self._frame
        if self._picture is not None and self._gate is not None and not self._gate.is_open(frame):
            return self._picture
        self.forget()
        picture = encode()
        self._frame = frame
        self._picture = picture
        if self._gate is not None:
            self._gate.remember(frame)
        return picture

    def release(self) -> None:
        """All questions of a frame are answered."""
        if self._gate is None:
            self.forget()

    def forget(self) -> None:
        """Let the picture go: the next frame is encoded, whatever it shows."""
        if self._picture is not None:
            self._picture.close()
        self.same_as = None
        self._frame = None
        self._picture = None
        if self._gate is not None:
            self._gate.forget()
