"""`symfx.config` under the name of torch's module."""

import sys

import symfx.config

sys.modules[__name__] = symfx.config
