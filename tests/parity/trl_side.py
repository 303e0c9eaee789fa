"""TRL 0.23.1's side of the comparison. Run with that release first on PYTHONPATH; it shares no process with ours.

    python tests/parity/trl_side.py PIPELINE EXCHANGE          every scenario -> EXCHANGE/results.json and tensors
    python -m torch.distributed.run ... trl_side.py PIPELINE EXCHANGE ranks      one step on two processes

What raises is recorded as {"error": "Type: message"}; that it raises is what some of the tests assert.
"""

import dataclasses
import json
import os
import sys
import warnings
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

warnings.simplefilter("ignore")

from trl import (  # noqa: E402
    AlignPropConfig,
    AlignPropTrainer,
    DDPOConfig,
    DDPOTrainer,
    DefaultDDPOStableDiffusionPipeline,
)
from trl.trainer.utils import PerPromptStatTracker  # noqa: E402

PROMPTS = ["a red circle", "a blue square"]


def redness(images, prompts, metadata):
    return images[:, 0].float().mean((1, 2)), {}


def next_prompt(calls=iter(range(10**9))):  # noqa: B008
    return PROMPTS[next(calls) % 2], {}


def make_trainer(pipeline, reward=redness, hook=None, loaded=None, **changes):
    """Their trainer in an order that works: accelerate's state first, since their constructors log."""
    PartialState(cpu=True)
    settings = dict(
        num_epochs=1, mixed_precision="no", sample_num_steps=4, sample_batch_size=4, sample_guidance_scale=3.0,
        sample_num_batches_per_epoch=1, train_batch_size=4, train_learning_rate=1e-2, save_freq=1,
    )
    config = DDPOConfig(**(settings | changes))
    loaded = loaded or DefaultDDPOStableDiffusionPipeline(pipeline)
    return DDPOTrainer(config, reward, next_prompt, loaded, image_samples_hook=hook)


def lora_of(trainer):
    unet = trainer.sd_pipeline.unet
    return {name: p.detach().clone() for name, p in unet.named_parameters() if "lora_" in name}


def moved(before, after):
    return max((after[name] - before[name]).abs().max().item() for name in after)


def documented_order(pipeline, exchange):
    DefaultDDPOStableDiffusionPipeline(pipeline)
    return {}


def loss_and_gradients(pipeline, exchange):
    rollout = load_file(exchange / "rollout.safetensors")
    trainer = make_trainer(pipeline, sample_num_steps=5, train_clip_range=1e-4)
    trainer.sd_pipeline.scheduler.set_timesteps(5)
    weights = load_file(exchange / "lora.safetensors")
    parameters = {name: p for name, p in trainer.sd_pipeline.unet.named_parameters() if "lora_" in name}
    assert set(parameters) == set(weights), sorted(set(parameters) ^ set(weights))[:4]
    gradients, records = {}, []
    for guided in (True, False):
        trainer.config.train_cfg = guided
        embeds = rollout["guided_embeds"] if guided else rollout["embeds"]
        for name, parameter in parameters.items():
            parameter.data.copy_(weights[name])
            parameter.grad = None
        for index in range(4):
            loss, kl, clipped = trainer.calculate_loss(
                rollout["latents"][index], rollout["timesteps"][index].repeat(len(rollout["advantages"])),
                rollout["latents"][index + 1], rollout[f"log_probs_{guided}"][index], rollout["advantages"], embeds,
            )
            loss.backward()
            records.append([loss.item(), kl.item(), clipped.item()])
        gradients |= {f"{guided}.{name}": p.grad.clone() for name, p in parameters.items()}
    save_file(gradients, exchange / "gradients.safetensors")
    return {"records": records}


def prompt_statistics(pipeline, exchange):
    tracker = PerPromptStatTracker(buffer_size=6, min_count=3)
    rounds = json.loads((exchange / "statistics.json").read_text())
    return {"advantages": [tracker.update(prompts, rewards).tolist() for prompts, rewards in rounds]}


def default_config(pipeline, exchange):
    values = dataclasses.asdict(DDPOConfig())
    (exchange / "defaults.yaml").write_text(yaml.safe_dump(values))
    small = DDPOConfig(
        num_epochs=1, mixed_precision="no", sample_num_steps=3, sample_batch_size=2, train_batch_size=2,
        sample_num_batches_per_epoch=2, train_gradient_accumulation_steps=1, per_prompt_stat_tracking=True,
        per_prompt_stat_tracking_min_count=2, sample_guidance_scale=2.0,
    )
    (exchange / "trl.yaml").write_text(yaml.safe_dump(dataclasses.asdict(small)))
    return {"fields": sorted(values)}


def hyperalign_in_ddpo(pipeline, exchange):
    from reward import HyperAlignReward

    reward = HyperAlignReward.from_pretrained(os.environ["HYPERALIGN_FOLDER"])
    trainer = make_trainer(pipeline, reward=reward.ddpo())
    before = lora_of(trainer)
    steps = trainer.step(0, 0)
    return {"optimizer_steps": steps, "moved": moved(before, lora_of(trainer))}


def hyperalign_in_alignprop(pipeline, exchange):
    from reward import HyperAlignReward
    from reward.trl_adapters import alignprop_reward

    PartialState(cpu=True)
    config = AlignPropConfig(
        num_epochs=1, mixed_precision="no", sample_num_steps=3, train_batch_size=2, sample_guidance_scale=3.0,
        truncated_backprop_rand=False, truncated_backprop_timestep=1, negative_prompts="",
    )
    reward = HyperAlignReward.from_pretrained(os.environ["HYPERALIGN_FOLDER"])
    trainer = AlignPropTrainer(
        config, alignprop_reward(reward), next_prompt, DefaultDDPOStableDiffusionPipeline(pipeline)
    )
    before = lora_of(trainer)
    trainer.step(0, 0)
    return {"moved": moved(before, lora_of(trainer))}


def make_alignprop(pipeline, **changes):
    settings = dict(
        num_epochs=1, mixed_precision="no", sample_num_steps=8, train_batch_size=1, sample_guidance_scale=3.0,
        save_freq=1000,
    )
    loaded = DefaultDDPOStableDiffusionPipeline(pipeline)
    return AlignPropTrainer(AlignPropConfig(**(settings | changes)), redness, next_prompt, loaded)


def alignprop_random_truncation(pipeline, exchange):
    trainer = make_alignprop(pipeline, truncated_rand_backprop_minmax=(0, 8))
    reached, calls = [], []

    def watch(module, inputs, output):
        # The backward pass's recomputation stops before it comes here.
        number = len(calls)
        calls.append(number)
        if output[0].requires_grad:
            output[0].register_hook(lambda gradient: reached.append(number))

    trainer.sd_pipeline.unet.register_forward_hook(watch)
    steps = []
    for epoch in range(4):
        calls.clear()
        reached.clear()
        trainer.step(epoch, epoch)
        steps.append(sorted(reached))
    return {"steps": steps}


def alignprop_default_timestep(pipeline, exchange):
    make_alignprop(pipeline, truncated_backprop_rand=False).step(0, 0)
    return {}


def alignprop_no_guidance(pipeline, exchange):
    make_alignprop(pipeline, truncated_backprop_rand=False, truncated_backprop_timestep=1,
                   sample_guidance_scale=1.0).step(0, 0)
    return {}


def resume(pipeline, exchange):
    project = {"project_dir": str(exchange / "resume"), "automatic_checkpoint_naming": True}
    trained = make_trainer(pipeline, project_kwargs=project)
    trained.step(0, 0)
    trained.accelerator.save_state()
    saved = lora_of(trained)
    AcceleratorState._reset_state(True)
    PartialState(cpu=True)
    resumed = make_trainer(
        pipeline, project_kwargs=project, save_freq=1000,
        resume_from=str(exchange / "resume" / "checkpoints" / "checkpoint_0"),
    )
    own = lora_of(resumed)
    resumed.step(1, 1)
    return {
        "saved_up": max(t.abs().max().item() for name, t in saved.items() if "lora_B" in name),
        "resumed_up": max(t.abs().max().item() for name, t in own.items() if "lora_B.default." in name),
        "first_epoch": resumed.first_epoch,
        "adapters": list(resumed.sd_pipeline.unet.peft_config),
        "active": resumed.sd_pipeline.unet.active_adapters(),
        "moved_afterwards": moved(own, lora_of(resumed)),
    }


def half_precision(pipeline, exchange):
    trainer = make_trainer(pipeline, mixed_precision="bf16", sample_num_steps=10)
    samples, _ = trainer._generate_samples(1, 4)
    sample = samples[0]
    trainer.sd_pipeline.unet.train()
    embeds = torch.cat([sample["negative_prompt_embeds"], sample["prompt_embeds"]])
    kls, clipped = [], []
    with torch.no_grad():
        for index in range(10):
            _, kl, share = trainer.calculate_loss(
                sample["latents"][:, index], sample["timesteps"][:, index], sample["next_latents"][:, index],
                sample["log_probs"][:, index], torch.ones(4), embeds,
            )
            kls.append(kl.item())
            clipped.append(share.item())
    return {"largest_root_kl": max((2 * kl) ** 0.5 for kl in kls), "clipped": sum(clipped) / 10,
            "latents": str(sample["latents"].dtype)}


def schedule_with_t0(pipeline, exchange):
    loaded = DefaultDDPOStableDiffusionPipeline(pipeline)
    loaded.sd_pipeline.scheduler.register_to_config(steps_offset=0)
    trainer = make_trainer(pipeline, loaded=loaded)
    trainer.step(0, 0)
    weights = lora_of(trainer)
    return {"nan_tensors": sum(bool(t.isnan().any()) for t in weights.values()), "tensors": len(weights)}


def asynchronous_rewards(pipeline, exchange):
    make_trainer(pipeline, async_reward_computation=True).step(0, 0)
    return {}


def no_guidance(pipeline, exchange):
    make_trainer(pipeline, sample_guidance_scale=1.0).step(0, 0)
    return {}


def hook_without_tracker(pipeline, exchange):
    make_trainer(pipeline, hook=lambda *args: None, log_with=None).step(0, 0)
    return {}


def save_pretrained(pipeline, exchange):
    make_trainer(pipeline).save_pretrained(exchange / "pretrained")
    return {}


def reload_saved(pipeline, exchange):
    from diffusers import StableDiffusionPipeline

    loaded = DefaultDDPOStableDiffusionPipeline(pipeline)
    loaded.get_trainable_layers()
    loaded.save_pretrained(exchange / "pipeline")
    first, again = (
        dict(StableDiffusionPipeline.from_pretrained(folder).unet.named_parameters())
        for folder in (pipeline, exchange / "pipeline")
    )
    # A weight that the file lacks stays on the meta device, without values, or is random: as diffusers' release has it.
    differing = [
        name for name in first if again[name].is_meta or not torch.equal(first[name], again[name])
    ]
    return {"differing": sorted(differing)}


def two_ranks(pipeline, exchange):
    trainer = make_trainer(pipeline)
    rank = trainer.accelerator.process_index
    save_file(lora_of(trainer), exchange / f"before{rank}.safetensors")
    trainer.step(0, 0)
    save_file(lora_of(trainer), exchange / f"after{rank}.safetensors")


# The first must find accelerate untouched.
SCENARIOS = (
    documented_order, loss_and_gradients, prompt_statistics, default_config, hyperalign_in_ddpo,
    hyperalign_in_alignprop, alignprop_random_truncation, alignprop_default_timestep, alignprop_no_guidance, resume,
    schedule_with_t0, asynchronous_rewards, no_guidance, hook_without_tracker, save_pretrained, reload_saved,
    half_precision,
)


def main(pipeline, exchange, mode="all"):
    if mode == "ranks":
        two_ranks(pipeline, exchange)
        return
    results = {}
    for scenario in SCENARIOS:
        try:
            results[scenario.__name__] = scenario(pipeline, exchange)
        except Exception as error:  # noqa: BLE001
            results[scenario.__name__] = {"error": f"{type(error).__name__}: {error}"}
        AcceleratorState._reset_state(True)
        print(scenario.__name__, flush=True)
        # Their pipeline logs; all scenarios but the first are about something else.
        PartialState(cpu=True)
    (exchange / "results.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
