"""Ray's workers give the plain run's file byte for byte, also when one of them is killed."""

import os
import signal

import pytest
import torch
from PIL import Image

from reward import HyperAlignReward
from reward.cli.main import main
from reward.scoring.inputs import find_rows
from reward.scoring.score import PART_BATCHES, model_digest, score_to_file

ray = pytest.importorskip("ray")
from reward.scoring.ray_engine import RayEngine  # noqa: E402

BATCH = 2
COUNT = 6 * BATCH * PART_BATCHES + 3


@pytest.fixture(scope="module")
def cluster():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    # as many cores as workers, whatever the machine has; modules of this working tree
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd())}})  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    lines = ["image,prompt"]
    for i in range(COUNT):
        pixels = torch.randint(0, 256, (20 + i % 5, 24, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,a {('red', 'blue', 'green')[i % 3]} circle")
    (folder / "pairs.csv").write_text("\n".join(lines))
    (folder / "07.png").write_bytes(b"no picture")
    return folder


def test_two_workers_and_a_killed_one_give_the_plain_file(reward, pictures, tmp_path, cluster):
    reward.save_pretrained(tmp_path / "model")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray's workers
    rows = find_rows([], pictures / "pairs.csv")
    plain, _ = score_to_file(reward, rows, tmp_path / "plain.csv", batch_size=BATCH, progress=False)
    torch.set_num_threads(threads)
    assert plain.unreadable == 1
    with RayEngine(str(tmp_path / "model"), workers=2) as engine:
        # so that what a plain run finished is not done again
        assert engine.model_key() == model_digest(HyperAlignReward.from_pretrained(str(tmp_path / "model")))
        count, problems = score_to_file(
            None, rows, tmp_path / "ray.csv", batch_size=BATCH, progress=False, engine=engine
        )
        assert (count, len(list(problems))) == (plain, 1)
        assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()

        before, score = engine.pids(), engine.score_parts

        def killed(parts, batch_size, advance):
            for number, done in enumerate(score(parts, batch_size, advance)):
                if number == 0:
                    os.kill(before[0], signal.SIGKILL)
                yield done

        engine.score_parts = killed
        score_to_file(None, rows, tmp_path / "killed.csv", batch_size=BATCH, progress=False, engine=engine)
        assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
        assert engine.pids() != before


def test_the_command_and_what_is_wrong_with_a_model(reward, pictures, tmp_path, cluster, capsys):
    reward.save_pretrained(tmp_path / "model")
    table = ["score", str(pictures / "pairs.csv"), "--engine", "ray", "--workers", "2", "--quiet"]
    output = ["--output", str(tmp_path / "s.csv"), "--batch-size", "2"]
    assert main([*table, *output, "--model", str(tmp_path / "model")]) == 1
    assert len((tmp_path / "s.csv").read_text().splitlines()) == COUNT
    assert main([*table, *output, "--model", "./nowhere"]) == 2
    assert "Expected a HyperAlign folder" in capsys.readouterr().err
    assert main([*table, "--model", str(tmp_path / "model")]) == 2
    assert "Expected --output FILE with --engine ray" in capsys.readouterr().err
