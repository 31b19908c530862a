"""What pytest leaves alone here: a script for the environment of other frameworks, which the tests there run."""

collect_ignore = ["compare_torchattacks.py"]
