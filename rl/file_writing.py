"""Files that are written whole or not at all, as `reward.file_writing` has it."""

from reward.file_writing import naming, remove_scratch, scratch_beside, write_text, write_whole

__all__ = ["naming", "remove_scratch", "scratch_beside", "write_text", "write_whole"]
