"""`wrap`: a network of another framework, an nn.Module or a bare callable, as a victim."""

from spikeproof.interop._wrapped import Wrapped, wrap

__all__ = ["Wrapped", "wrap"]
