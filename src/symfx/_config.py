"""`symfx.config` under the name that the module has in torch."""

import sys

import symfx.config

sys.modules[__name__] = symfx.config
