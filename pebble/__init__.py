"""pebble: fit a PyTorch training step into a memory budget, with the least recomputation."""

import logging

from pebble._version import __version__

__all__ = ["__version__"]

logging.getLogger(__name__).addHandler(logging.NullHandler())
