"""One prompt read for everybody: its phrases, and the words that could stand in place of theirs."""
