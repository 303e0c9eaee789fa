"""What a run can be told: one dataclass for every update rule, strict loading from YAML and command line."""
