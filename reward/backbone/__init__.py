"""The open_clip towers: loading, checks, faster attention, features of prompts and images."""
