"""A cell's configuration: what may be said (schema), reading it (parse), a grid of them (grid), what it names (build).

YAML in, the complete configuration beside the results. A part is a mapping with its 'name' and its options (`spikeproof
parts` lists them).
"""

from spikeproof.study.config.arguments import add_cell_arguments, cell_of
from spikeproof.study.config.build import cases_of, rule_of, threats_of, training_threat
from spikeproof.study.config.grid import Study, load_study, overlaid
from spikeproof.study.config.parse import cell_from
from spikeproof.study.config.rehearsal import rehearse
from spikeproof.study.config.schema import (
    CellConfig,
    Energy,
    Evaluation,
    Generalisation,
    Gradients,
    Headline,
    Network,
    Panel,
    Paper,
    Part,
    Pixels,
    Theory,
)  # fmt: skip
from spikeproof.study.config.stored import again_config, stored_config

__all__ = [
    "CellConfig", "Energy", "Evaluation", "Generalisation", "Gradients", "Headline", "Network", "Panel", "Paper",
    "Part", "Pixels", "Study", "Theory", "add_cell_arguments", "again_config", "cases_of", "cell_from", "cell_of",
    "load_study", "overlaid", "rehearse", "rule_of", "stored_config", "threats_of", "training_threat",
]  # fmt: skip
