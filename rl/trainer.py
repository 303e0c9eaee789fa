"""The one loop: prompts -> rollout -> rewards -> update -> evaluate -> checkpoint -> report.

The update rule (`rl.updates.ddpo`, `rl.updates.direct`) turns rewards into gradients. The loop uses it through the
protocol `rl.updates.experience.Update`.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from tqdm.auto import tqdm

from reward.parallel.background import BackgroundThreads
from rl.config.loading import write_yaml
from rl.config.train_config import TrainConfig
from rl.lora.adapter import add_lora, save_lora
from rl.lora.stored_weights import MovingAverage
from rl.models.checks import announce_cut_prompts
from rl.models.families import policy_for
from rl.models.loading import load_pipeline
from rl.models.options import DTYPES, prepare_pipeline
from rl.models.policy import sample_seed
from rl.monitoring.early_stop import EarlyStop
from rl.monitoring.evaluation import Evaluator, write_evaluation
from rl.monitoring.hacking_panel import HackingPanel
from rl.prompts import epoch_prompts, load_prompts
from rl.report.page import write_report
from rl.rewards.loading import NonFiniteRewardError, RewardSet, load_rewards, normalized_sum
from rl.runs.checkpoints import find_checkpoint
from rl.runs.errors import explained
from rl.runs.metrics_file import RunReporter
from rl.runs.run_folder import make_accelerator, prepare_run_folder, save_failure, start_trackers
from rl.runs.stop_signal import StopSignal, announce, stop_message
from rl.runs.summary import write_summary
from rl.training_state import restore_trainer, save_trainer
from rl.updates.experience import Experience, SampledBatch, Update
from rl.updates.optimizer import make_optimizer

_GRID_PICTURES = 8
_OUT_OF_TIME, _STAGNATED, _SIGNALLED = 1, 2, 3


class Trainer:
    """Fine-tunes a pipeline with a LoRA and writes a run folder.

    Args:
        config: the run's config.
        pipeline: of a class that `rl.models.families` supports.
        rewards: the rewards to maximise.
        prompts: training prompts.
        update_class: the update rule, e.g. `DDPOUpdate`.
        eval_rewards: held-out rewards.
        eval_prompts: evaluation prompts; None: the training prompts.

    Example:
        >>> Trainer(config, pipeline, rewards, prompts, DDPOUpdate).train()
    """

    def __init__(
        self,
        config: TrainConfig,
        pipeline: Any,
        rewards: RewardSet,
        prompts: Sequence[str],
        update_class: Callable[..., Update],
        *,
        eval_rewards: RewardSet | None = None,
        eval_prompts: Sequence[str] | None = None,
        accelerator: Any = None,
    ) -> None:
        self.config, self.rewards, self.prompts = config, rewards, list(prompts)
        if not rewards.rewards:
            raise ValueError("rewards: expected at least one reward to maximise, got none. Set `rewards`.")
        self.accelerator = accelerator or make_accelerator(config)
        self.groups = config.check_groups(self.accelerator.num_processes)
        set_seed(config.seed)
        prepare_pipeline(pipeline, config, self.accelerator.device)
        self.pipeline = pipeline
        announce_cut_prompts(pipeline, [*self.prompts, *(eval_prompts or ())])
        self.policy = policy_for(pipeline, config)
        self.lora = add_lora(
            self.policy.denoiser, rank=config.lora_rank, alpha=config.lora_alpha,
            targets=config.lora_targets or list(self.policy.lora_targets), seed=config.seed,
        )
        self.optimizer = make_optimizer(config, self.lora)
        self.policy.trained, prepared = self.accelerator.prepare(self.policy.denoiser, self.optimizer)
        self.update = update_class(config, self.policy, self.accelerator, prepared)
        self.average = MovingAverage(self.lora, config.ema_decay) if config.ema_decay else None
        self.evaluator = Evaluator(
            self.policy,
            rewards,
            eval_rewards or RewardSet([]),
            eval_prompts or prompts,
            seed=config.eval_seed,
            batch_size=config.eval_batch_size,
            process=(self.accelerator.process_index, self.accelerator.num_processes),
            gather=_gather_rows if self.accelerator.num_processes > 1 else None,
        )
        self.panel = HackingPanel(
            self.evaluator, num_prompts=config.eval_freq_num_prompts, group_size=config.eval_freq_group_size,
            guidance_scale=config.sample_guidance_scale,
        ) if config.eval_freq else None
        if config.early_stop_on_alarm and not self.evaluator.eval_rewards.names:
            raise ValueError(
                "early_stop_on_alarm: expected at least one of eval_rewards, got none. The best weights would be "
                "chosen by the hacked reward itself. Set a held-out reward to choose them."
            )
        self.early_stop = EarlyStop(self.lora, config.early_stop_patience, on_alarm=config.early_stop_on_alarm)
        self.run = Path(config.output_dir)
        self.epoch = 0
        self.train_seconds = 0.0

    @classmethod
    def from_config(
        cls, config: TrainConfig, update_class: Callable[..., Update], *, resolve: Callable[[str], str] = str
    ) -> "Trainer":
        """Load model, rewards and prompts of the config, then make the trainer.

        Args:
            config: the run's config.
            update_class: see the class.
            resolve: turns a model or folder name of the recipe into a path, for example of a packaged model.

        Raises:
            ValueError, FileNotFoundError: a model, reward or prompt file of the config does not exist.
        """
        prompts = load_prompts(config.prompts)
        eval_prompts = load_prompts(config.eval_prompts) if config.eval_prompts else None
        accelerator = make_accelerator(config)
        rewards = load_rewards(
            config.rewards, device=accelerator.device, resolve=resolve, keep_graph=update_class.needs_gradients,
            aggregation=config.reward_aggregation, timeout=config.reward_timeout,
        )
        held_out = load_rewards(
            config.eval_rewards, device=accelerator.device, resolve=resolve, field="eval_rewards",
            timeout=config.reward_timeout,
        )
        pipeline = load_pipeline(resolve(config.model), DTYPES[config.mixed_precision])
        return cls(
            config, pipeline, rewards, prompts, update_class,
            eval_rewards=held_out, eval_prompts=eval_prompts, accelerator=accelerator,
        )

    def train(self) -> dict[str, Any]:
        """Run the remaining epochs; returns the content of `summary.json`.

        SIGTERM ends the run after the current epoch, with a checkpoint but without the comparison of base and LoRA.

        Raises:
            NonFiniteRewardError: a reward was NaN or infinite; the pictures are in `failure/`, no update was made.
            RewardTimeoutError: a reward did not answer within `reward_timeout`.
            ConnectionError: another process of the run has ended.
        Every error has a note that names the newest checkpoint.
        """
        started = time.monotonic()
        self._open_run()
        with explained(self.run, self.accelerator.num_processes):
            return self._train(started)

    def _train(self, started: float) -> dict[str, Any]:
        before, stop = self.train_seconds, 0
        epochs = range(self.epoch, self.config.num_epochs)
        bar = tqdm(epochs, desc="epochs", unit="epoch", disable=not self.accelerator.is_main_process)
        with StopSignal() as signal, bar:
            for epoch in bar:
                metrics, stagnated = self._run_epoch(epoch), False
                self.epoch = epoch + 1
                if self.panel and self.epoch % self.config.eval_freq == 0:
                    evaluation, stagnated = self._evaluate_now()
                    metrics |= evaluation
                self.train_seconds = before + time.monotonic() - started
                self._log(metrics)
                bar.set_postfix(reward=f"{metrics['reward_mean']:.3f}")
                stop = self._stop_reason(signal.received, stagnated)
                if self.epoch % self.config.save_freq == 0 or self.epoch == self.config.num_epochs or stop:
                    save_trainer(self)
                if stop:
                    break
        if stop == _STAGNATED and self.accelerator.is_main_process:
            announce(self.early_stop.message(self.epoch))
        summary = self._close_run(before + time.monotonic() - started, finished=stop != _SIGNALLED)
        if stop == _SIGNALLED and self.accelerator.is_main_process:
            announce(stop_message(self.epoch, self.config.num_epochs, self.run))
        return summary

    def _run_epoch(self, epoch: int) -> dict[str, float]:
        clock, rows_before, self._reward_queries = _Clock(), self.policy.rows_evaluated, 0
        rate = self.config.learning_rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        try:
            experience, metrics = self._sample(epoch, clock)
        except NonFiniteRewardError as error:
            save_failure(self.run, self.accelerator.process_index, epoch, error)
            raise
        with clock("update"):
            metrics |= self._mean_over_processes(self.update.step(epoch, experience))
            if self.average:
                self.average.update()
        # Total over all processes, which all do the same amount of work.
        evaluations = self.policy.rows_evaluated - rows_before
        costs = {"denoiser_evaluations": evaluations, "reward_queries": self._reward_queries}
        metrics |= {name: float(value * self.accelerator.num_processes) for name, value in costs.items()}
        return metrics | {"learning_rate": rate} | clock.seconds

    def _mean_over_processes(self, metrics: dict[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1:
            return metrics
        values = torch.tensor(list(metrics.values()), device=self.accelerator.device)
        return dict(zip(metrics, self.accelerator.reduce(values, reduction="mean").tolist(), strict=True))

    def _sample(self, epoch: int, clock: "_Clock") -> tuple[Experience, dict[str, float]]:
        config, accelerator = self.config, self.accelerator
        size, batches, world = config.sample_batch_size, config.sample_num_batches_per_epoch, accelerator.num_processes
        drawn = epoch_prompts(self.prompts, self.groups, epoch, config.seed)
        prompts = [prompt for prompt in drawn for _ in range(config.sample_group_size)]
        trajectory = self.policy.empty_trajectory(size * batches, config.sample_guidance_scale)
        positions = torch.arange(batches * world * size).view(batches, world, size)[:, accelerator.process_index]
        with BackgroundThreads(config.max_workers) as threads:
            score_later = self._score_without_graph
            if config.async_reward_computation:
                score_later = functools.partial(threads.submit, score_later)
            score, score_later = self._counting(self._score), self._counting(score_later)
            pending: list[Any] = []
            for number, indices in enumerate(positions.tolist()):
                batch = SampledBatch(
                    [prompts[i] for i in indices], [sample_seed(config.seed, epoch, i) for i in indices],
                    trajectory, number * size, clock, score, score_later,
                )
                self.update.sample(batch)
                pending.append(batch.scores)
                if number == 0:
                    self._save_grid(epoch, batch.images, batch.prompts)
            with clock("reward"):
                scores = torch.cat([part.result() if isinstance(part, Future) else part for part in pending])
        scores = accelerator.gather(scores)
        # Gathering orders scores by process, then batch. Prompt groups need them by batch, then process.
        scores = scores.view(world, batches, size, -1).transpose(0, 1).flatten(0, 2).cpu()
        rewards, means = scores[:, 0], scores.mean(0).tolist()
        metrics = {"reward_mean": means[0], "reward_std": rewards.std(unbiased=False).item()}
        metrics |= {f"reward/{name}": mean for name, mean in zip(self.rewards.names, means[1:], strict=True)}
        metrics["pictures"] = float((epoch + 1) * len(rewards))
        if config.reward_normalization != "none":
            group = config.sample_group_size if config.reward_normalization == "group" else len(rewards)
            rewards = normalized_sum(scores[:, 1:], [reward.weight for reward in self.rewards.rewards], group)
        return Experience(trajectory, prompts, rewards, positions.flatten()), metrics

    def _score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        total, parts = self.rewards(images, prompts)
        return torch.stack([total, *parts.values()], dim=1)

    def _counting(self, score: Callable[..., Any]) -> Callable[..., Any]:
        def counted(images: torch.Tensor, prompts: list[str]) -> Any:
            self._reward_queries += len(prompts)
            return score(images, prompts)

        return counted

    def _score_without_graph(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return self._score(images, prompts)

    @contextlib.contextmanager
    def _best_weights(self) -> Iterator[None]:
        with self.average.applied() if self.average else contextlib.nullcontext():
            yield

    def _evaluate_now(self) -> tuple[dict[str, float], bool]:
        with self._best_weights():
            metrics, alarm = self.panel.evaluate(self.epoch)
            held_out = metrics[f"eval/{self.evaluator.metric}"]
            return metrics, self.early_stop.see(self.epoch, held_out, alarm=alarm is not None)

    def _stop_reason(self, signalled: bool, stagnated: bool) -> int:
        limit = self.config.max_train_seconds
        out_of_time = limit and self.train_seconds >= limit
        own = _SIGNALLED if signalled else _STAGNATED if stagnated else _OUT_OF_TIME if out_of_time else 0
        # Clocks differ, and a signal may reach only one process. All processes must stop after the same epoch.
        return int(self.accelerator.gather(torch.tensor([own], device=self.accelerator.device)).max())

    def _open_run(self) -> None:
        main, resumed = self.accelerator.is_main_process, None
        if self.config.resume_from:
            resumed = find_checkpoint(Path(self.config.resume_from), tell=main)
        if main:
            prepare_run_folder(self.run, resumed)
            write_yaml(self.config, self.run / "config.yaml")
        self.accelerator.wait_for_everyone()
        if resumed:
            restore_trainer(self, resumed)
        if self.panel:
            self.panel.open(self.run, self.epoch)
        self.reporter = RunReporter(self.run, start_step=self.epoch) if main else None
        start_trackers(self.accelerator, self.config)

    def _log(self, metrics: dict[str, float]) -> None:
        metrics = metrics | {"seconds": self.train_seconds}
        if self.reporter:
            self.reporter.log(self.epoch, metrics)
        self.accelerator.log(metrics, step=self.epoch)

    def _save_grid(self, epoch: int, images: torch.Tensor, prompts: list[str]) -> None:
        number = epoch + 1
        due = number in (1, self.config.num_epochs) or number % self.config.grid_freq == 0
        if not self.reporter or not due:
            return
        # Prefer pictures with different prompts.
        order = sorted(range(len(prompts)), key=lambda i: prompts[:i].count(prompts[i]))[:_GRID_PICTURES]
        images, captions = images[order].float().cpu(), [prompts[i] for i in order]
        self.reporter.save_grid(f"epoch_{number:06d}", images, captions)
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": images.permute(0, 2, 3, 1).numpy()}, step=number, **layout)

    def _close_run(self, seconds: float, *, finished: bool) -> dict[str, Any]:
        started = time.monotonic()
        summary: dict[str, Any] = {"epochs": self.epoch, "train_seconds": round(seconds, 1)}
        summary |= self.panel.summary() if self.panel else {}
        with self._best_weights():
            if finished and self.early_stop.weights:
                self.early_stop.restore_best()
                summary["best_epoch"] = self.early_stop.best_epoch
            if self.accelerator.is_main_process:
                save_lora(self.policy.denoiser, type(self.pipeline), self.run)
            if finished and self.config.eval_at_end:
                summary |= self._compare()
        if self.accelerator.is_main_process:
            summary["seconds"] = round(seconds + time.monotonic() - started, 1)
            write_summary(self.run, summary)
            write_report(self.run)
        self.accelerator.end_training()
        return summary

    def _compare(self) -> dict[str, Any]:
        config, main = self.config, self.accelerator.is_main_process
        sweeps = 2 * len(config.eval_guidance_scales) + len(set(config.eval_lora_scales) - {1.0})
        total = sweeps * config.eval_num_prompts // self.accelerator.num_processes
        with tqdm(total=total, desc="evaluation", unit="picture", disable=not main) as bar:
            comparison = self.evaluator.compare(
                config.eval_num_prompts, config.eval_guidance_scales, bar.update, config.eval_lora_scales
            )
        if main:
            write_evaluation(self.run, self.evaluator, comparison)
            tqdm.write(comparison.table())
        return comparison.summary()


class _Clock:
    """Seconds spent in each part of an epoch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        key = f"seconds/{part}"
        self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - started


def _gather_rows(rows: list) -> list:
    from accelerate.utils import gather_object

    return gather_object(rows)
