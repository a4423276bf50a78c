"""symfx in the place of torch's own symbolic shapes: torch.export and torch.compile on symfx.

The function is `symfx.install`, so that no package can have its name.
"""

from symfx.installation.recompiles import Recompile, explain_recompiles
from symfx.installation.report import InstalledReport, Swapped, installed_report
from symfx.installation.switch import InstallError, install, installed, is_installed, uninstall

__all__ = [
    "InstallError",
    "InstalledReport",
    "Recompile",
    "Swapped",
    "explain_recompiles",
    "install",
    "installed",
    "installed_report",
    "is_installed",
    "uninstall",
]
