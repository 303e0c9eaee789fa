"""The config of a run: one dataclass per update rule, strict loading from YAML and command line."""
