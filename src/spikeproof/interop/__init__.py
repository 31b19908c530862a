"""Networks of other frameworks as victims: `spikeproof.wrap`. One file a framework; none is imported here."""
