"""Real images with labels and ids, one file a data set: an index becomes pixels in [0,1], a label and an id.

The id of an image is stable for ever and keys its randomness, so a subset, another order or more images in a folder
change no result of the images that stay. Nothing is decoded, unpacked or downloaded before `load` is called.
An image may be a grid of events over time (T,2,H,W); recordings and frames from elsewhere become such images by
`from_events` and `from_frames`.
"""

from spikeproof.data._adapted import from_events, from_frames
from spikeproof.data._images import Images, balanced, split

__all__ = ["Images", "balanced", "from_events", "from_frames", "split"]
