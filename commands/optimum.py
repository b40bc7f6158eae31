"""optimum-cli export vpt: vpt-export, for people who know Optimum's command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo

from vpt_edge.commands.console import exit_code
from vpt_edge.commands.export import add_arguments, run

if TYPE_CHECKING:
    import argparse


class VptExportCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # has no types
    """See ``optimum.commands.base``."""

    COMMAND = CommandInfo(
        name="vpt", help="Split a vision-language model into graphs that look again (vpt-edge)."
    )

    @staticmethod
    def parse_args(parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)

    def run(self) -> None:
        """Ends the process with the exit code of vpt-export."""
        sys.exit(exit_code(lambda: run(self.args)))
