from benchmarks.sides import Side, take_turns

SOURCE = """
import time
class Counting:
    def __init__(self, settings):
        self.settings, self.epoch = settings, 0
    def run_epoch(self):
        print("a library that prints")
        self.epoch += 1
        if self.epoch == self.settings.get("fails_in"):
            raise RuntimeError("no more")
        return {"epoch": self.epoch, "at": time.perf_counter()}
"""


def make(folder, name, **settings):
    (folder / "toy_side.py").write_text(SOURCE)
    return Side({"side": name}, "toy_side:Counting", settings, str(folder))


def test_sides_take_turns_and_a_failed_one_says_why(tmp_path, capsys):
    rows = take_turns([make(tmp_path, "a"), make(tmp_path, "b", fails_in=2)], repeats=2, warm_up=1)
    found = [(row["side"], row["repeat"], row.get("epoch"), row.get("error")) for row in rows]
    failed = "RuntimeError: no more"
    assert found == [("b", 0, None, failed), ("a", 0, 2, None), ("a", 1, 3, None)]
    assert all(row["peak_mb"] > 0 and row["ready_mb"] > 0 for row in rows if "error" not in row)


def test_a_side_that_cannot_be_made_says_why(tmp_path, capsys):
    (row,) = take_turns([Side({}, "toy_side:Missing", {}, str(tmp_path))], repeats=2, warm_up=0)
    assert "toy_side" in row["error"]
