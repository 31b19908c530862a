"""spikeproof against its peers on the same networks; see README.md."""
