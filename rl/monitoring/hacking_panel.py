"""Evaluation during training: compare reward, held-out rewards and side metrics with the base model's; give the alarm.

The results are logged, and saved with their intervals in the run folder's `hacking_panel.json` for the report and for a
resumed run.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed

from reward.files.quoting import quoted, shortened
from reward.files.writing import write_text
from rl.monitoring.evaluation import Evaluator
from rl.monitoring.hacking_alarm import FEWEST_UNITS, LEVEL, PANEL_FILE, Alarm, Look, alarm_message, alarms, judge
from rl.monitoring.side_metrics import colour_entropy, diversity, edge_density, reduced, saturation, similarity
from rl.runs.random_state import random_state, restore_random_state
from rl.runs.stop_signal import announce

_MEASURES = {"colour_entropy": colour_entropy, "edge_density": edge_density, "saturation": saturation}
_RESERVED = ("alarm", "similarity_to_base", *_MEASURES, "diversity")


class HackingPanel:
    """Checks a run for reward hacking, on fixed prompts and seeds.

    The base model's pictures are sampled once, at the first evaluation. Each process keeps its share on the CPU,
    reduced in size. A resumed run samples the same ones again, because they depend on prompts and seeds only.

    Args:
        evaluator: samples and scores pictures; with several processes, each does its share of prompts.
        num_prompts: prompts per evaluation.
        group_size: pictures per prompt; with 1, diversity is not measured.
        guidance_scale: for base model and policy.

    Raises:
        ValueError: a held-out reward has the name of a side metric.

    Example:
        >>> panel = HackingPanel(evaluator, num_prompts=64, group_size=2, guidance_scale=5.0)
        >>> panel.open(Path("runs/mine"), epoch=0)
        >>> metrics, alarm = panel.evaluate(epoch=10)
    """

    def __init__(self, evaluator: Evaluator, *, num_prompts: int, group_size: int, guidance_scale: float) -> None:
        for name in evaluator.eval_rewards.names:
            if name in _RESERVED:
                raise ValueError(
                    f"eval_rewards: expected other names than those of the side metrics {', '.join(_RESERVED)}, got "
                    f"{quoted(name)}. Rename the function."
                )
        self.evaluator, self.guidance_scale = evaluator, guidance_scale
        self.num_prompts, self.group_size = num_prompts, group_size
        self.run: Path | None = None
        self.looks: list[Look] = []
        self._base: dict[str, np.ndarray] | None = None
        self._base_pictures: list[torch.Tensor] = []
        texts = [evaluator.prompt(slot) for slot in range(num_prompts)]
        # With very few prompts, the intervals are over seeds and hold for these prompts only.
        self.units = texts if len(set(texts)) >= FEWEST_UNITS else [str(slot) for slot in range(num_prompts)]

    @property
    def alarm(self) -> Alarm | None:
        """The alarm of the last evaluation, or None."""
        given = alarms(self.looks)
        return given[-1] if given and given[-1].epoch == self.looks[-1].epoch else None

    def open(self, run: Path, epoch: int) -> None:
        """Use a run folder and continue after `epoch`. Evaluations of later epochs in its file are dropped.

        Raises:
            ValueError: the folder's hacking_panel.json cannot be read.
        """
        self.run, path = run, run / PANEL_FILE
        self.looks = []
        if epoch and path.exists():
            try:
                looks = [Look.from_record(record) for record in json.loads(path.read_text(encoding="utf-8"))["looks"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Expected {path} to hold a run's earlier evaluations, got {shortened(repr(error))}. Move the "
                    "file away to start a new panel."
                ) from error
            self.looks = [look for look in looks if look.epoch <= epoch]
        if self.num_prompts < FEWEST_UNITS and self._is_main:
            announce(
                f"eval_freq_num_prompts: {self.num_prompts} prompts are too few to tell reward hacking from noise. The "
                f"side metrics are logged without an alarm. For the alarm, set it to {FEWEST_UNITS} or more."
            )

    def evaluate(self, epoch: int) -> tuple[dict[str, float], Alarm | None]:
        """Sample and measure the current policy and compare it with the base model; prints a new alarm.

        Every process must call it. The state of the random generators does not change.

        Args:
            epoch: epochs trained.

        Returns:
            metrics to log (`eval/NAME`, a mean over prompts; `eval/alarm`, 0 or 1), and the alarm or None. Both are the
            same on every process.
        """
        if self._base is None:
            with self.evaluator.policy.base_model():
                self._base, self._base_pictures = self._measure(None)
        now, _ = self._measure(self._base_pictures)
        held_out = self.evaluator.eval_rewards.names
        self.looks.append(judge(epoch, self._base, now, self.units, held_out, self.looks))
        alarm = self.alarm
        if self._is_main:
            self._save()
            if alarm and alarm.is_onset:
                announce(alarm_message(alarm, self.num_prompts * self.group_size))
        means = {f"eval/{name}": float(column.mean()) for name, column in now.items()}
        return means | {"eval/alarm": float(alarm is not None)}, alarm

    def summary(self) -> dict[str, Any]:
        """For summary.json: `alarms`, one entry per alarm."""
        return {"alarms": [alarm.record() for alarm in alarms(self.looks) if alarm.is_onset]}

    @property
    def _is_main(self) -> bool:
        return self.evaluator.process[0] == 0

    def _measure(self, base: list[torch.Tensor] | None) -> tuple[dict[str, np.ndarray], list[torch.Tensor]]:
        """Columns (num_prompts,) of means over a prompt's pictures, and this process's pictures, reduced in size.

        Args:
            base: the base model's reduced pictures in the same batches; None: the policy is the base model now.
        """
        evaluator, size = self.evaluator, self.evaluator.batch_size
        rank, world = evaluator.process
        slots = range(rank, self.num_prompts, world)
        # Indices of a group's pictures differ by a multiple of the number of prompts: same prompt, another seed.
        stride = -(-self.num_prompts // len(evaluator.prompts)) * len(evaluator.prompts)
        indices = [slot + place * stride for slot in slots for place in range(self.group_size)]
        names = ["reward", *evaluator.eval_rewards.names, "similarity_to_base", *_MEASURES]
        scores, kept = [], []
        with _own_randomness(evaluator.seed + rank):
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                images = evaluator.pictures(batch, self.guidance_scale)
                columns = evaluator.score(images, batch)
                small = reduced(images).cpu()
                columns["similarity_to_base"] = similarity(small, small if base is None else base[len(kept)])
                columns |= {name: measure(images) for name, measure in _MEASURES.items()}
                kept.append(small)
                scores.append(torch.stack([columns[name].cpu().double() for name in names], dim=1))
        rows = []
        if indices:
            means = torch.cat(scores).unflatten(0, (len(slots), self.group_size)).mean(1)
            if self.group_size > 1:
                groups = torch.cat(kept).unflatten(0, (len(slots), self.group_size))
                means = torch.cat([means, diversity(groups).double()[:, None]], dim=1)
            rows = [[slot, *values] for slot, values in zip(slots, means.tolist(), strict=True)]
        table = np.array(sorted(evaluator.gather(rows)))
        names += ["diversity"] if self.group_size > 1 else []
        return {name: table[:, place] for place, name in enumerate(names, start=1)}, kept

    def _save(self) -> None:
        if self.run is None:
            return
        record = {
            "level": LEVEL,
            "num_prompts": self.num_prompts,
            "group_size": self.group_size,
            "held_out": self.evaluator.eval_rewards.names,
            "looks": [look.record() for look in self.looks],
        }
        write_text(self.run / PANEL_FILE, json.dumps(record, indent=1) + "\n")


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    # A reward may draw random numbers. Base model and policy get the same ones, so that scores stay paired. Training
    # keeps its own state: a resumed run, which measures the base model again, must equal an uninterrupted one.
    state = random_state()
    set_seed(seed)
    try:
        yield
    finally:
        restore_random_state(state)
