"""Who attacks and who judges: tiers of attacks, the judge, audits of the attacks, the panel."""
