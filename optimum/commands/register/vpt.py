"""What Optimum's command line looks for: optimum-cli export vpt.

No folder above this file has an ``__init__``: they are Optimum's.
"""

from optimum.commands.export.base import ExportCommand

from vpt_edge.commands.optimum import VptExportCommand

REGISTER_COMMANDS = [(VptExportCommand, ExportCommand)]
