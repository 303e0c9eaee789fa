"""What NFT, matching and DPO share: noise and levels, the old LoRA, batches, groups, the checkpoint's state."""

import copy

import pytest
import torch
from accelerate import Accelerator

from rl.config.forward_config import DPOConfig, MatchingConfig, NFTConfig
from rl.lora.adapter import add_lora
from rl.models.policy import sample_seed
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.updates.advantages import compute_advantages
from rl.updates.dpo import DPOUpdate
from rl.updates.experience import Experience
from rl.updates.forward import squared_error, stratified
from rl.updates.matching import MatchingUpdate
from rl.updates.nft import NFTUpdate
from tests.rl.updates.epochs import PROMPTS, REWARDS, make_experience

RULES = {"nft": (NFTConfig, NFTUpdate), "matching": (MatchingConfig, MatchingUpdate), "dpo": (DPOConfig, DPOUpdate)}


def make_update(pipeline, rule="nft", learning_rate=1e-2, **changes):
    config_class, update_class = RULES[rule]
    values = dict(
        sample_num_steps=4, sample_eta=0.0, sample_guidance_scale=2.0, sample_batch_size=8,
        sample_num_batches_per_epoch=1, sample_group_size=4, train_batch_size=2 if rule == "dpo" else 8,
    )  # fmt: skip
    config = config_class(**(values | changes))
    policy = StableDiffusionPolicy(pipeline, num_steps=config.sample_num_steps, eta=config.sample_eta)
    parameters = add_lora(pipeline.unet, rank=4, alpha=8, targets=["to_q", "to_v"], seed=0)
    return update_class(config, policy, Accelerator(cpu=True), torch.optim.AdamW(parameters, lr=learning_rate))


def weights_after(pipeline, rule, rewards=REWARDS, epochs=1, **changes):
    update = make_update(copy.deepcopy(pipeline), rule, **changes)
    for epoch in range(epochs):
        metrics = update.step(epoch, make_experience(update, rewards))
    return [parameter.detach().clone() for parameter in update.parameters], metrics


@pytest.fixture(params=list(RULES))
def rule(request):
    return request.param


def test_an_epoch_changes_the_lora_and_nothing_else(tiny_pipeline, rule):
    before = {name: value.clone() for name, value in tiny_pipeline.unet.state_dict().items()}
    update = make_update(tiny_pipeline, rule)
    metrics = update.step(0, make_experience(update, REWARDS))
    after = tiny_pipeline.unet.state_dict()
    frozen = {name.replace(".base_layer", ""): value for name, value in after.items() if "lora_" not in name}
    assert before.keys() == frozen.keys() and all(torch.equal(before[name], frozen[name]) for name in before)
    assert any(value.abs().max() > 0 for name, value in after.items() if "lora_B" in name)
    assert metrics["grad_norm"] > 0 and metrics["optimizer_steps"] == 1


def test_a_constant_added_to_all_rewards_of_a_group_changes_nothing(tiny_pipeline, rule):
    shifted = [reward + (2.0 if place < 4 else -1.0) for place, reward in enumerate(REWARDS)]
    first, second = (weights_after(tiny_pipeline, rule, rewards)[0] for rewards in (REWARDS, shifted))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    other_way = [1 - reward for reward in REWARDS]
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(first, weights_after(tiny_pipeline, rule, other_way)[0],
                                                          strict=True))  # fmt: skip


def test_groups_without_spread_teach_nothing(tiny_pipeline):
    """All advantages are 0: matching has no gradient, and DPO compares a picture with itself."""
    for rule in ("matching", "dpo"):
        update = make_update(copy.deepcopy(tiny_pipeline), rule)
        metrics = update.step(0, make_experience(update, [0.5] * 8))
        assert metrics["grad_norm"] == pytest.approx(0, abs=1e-4) and metrics["zero_std_groups"] == 2


def test_better_pictures_become_likelier(tiny_pipeline, rule):
    """Errors weighted by advantages fall: good pictures are denoised better, relative to bad ones, than before."""
    update = make_update(tiny_pipeline, rule, learning_rate=3e-3, noise_levels_per_picture=16, old_decay_limit=0.0)
    experience = make_experience(update, REWARDS)
    advantages = compute_advantages(torch.tensor(REWARDS), 4, "group", 5.0)[0]
    units = torch.arange(8)[:, None].repeat(1, update.members)
    rows = update._noised(units, 0, 0, experience.trajectory.latents, PROMPTS, advantages)

    def weighted_error():
        with torch.no_grad():
            return (rows.advantages * squared_error(update.predict_new(rows), rows.clean, rows.scale)).mean().item()

    before = weighted_error()
    for _ in range(4):
        update.step(0, experience)
    assert weighted_error() < before


def test_small_batches_make_the_same_step_as_one(tiny_pipeline, rule):
    sizes = (1, 2) if rule == "dpo" else (2, 8)
    first, second = (
        weights_after(tiny_pipeline, rule, train_batch_size=size, train_gradient_accumulation_steps=sizes[1] // size)[0]
        for size in sizes
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)


def test_noise_is_each_pictures_own_and_new_each_epoch(tiny_pipeline):
    update = make_update(tiny_pipeline, noise_levels_per_picture=3)
    experience = make_experience(update, REWARDS)
    rows = {}
    loss = next(iter(update.parameters)).sum
    update.loss = lambda noised: rows.setdefault("noised", []).append(noised) or (loss(), {})
    update.step(0, experience)
    update.step(1, experience)
    found = [
        (each.noised - (1 - each.scale**2).sqrt() * each.clean) / each.scale for each in rows["noised"]
    ]
    flat = torch.cat(found).flatten(1)
    assert flat.shape[0] == 48 and torch.cdist(flat, flat).add(torch.eye(48) * 99).min() > 1.0
    assert flat.std().item() == pytest.approx(1, abs=0.05)
    # whichever batch a picture is in, its noise is the same
    alone = update._noised(torch.tensor([[5]]), 0, 0, experience.trajectory.latents, PROMPTS, torch.zeros(8))
    place = [i for i, row in enumerate(rows["noised"][0].clean) if torch.equal(row, alone.clean[0])]
    assert torch.equal(rows["noised"][0].noised[place], alone.noised)
    assert torch.equal(rows["noised"][0].levels[place], alone.levels)


def test_visited_states_are_the_pictures_own_at_the_samplers_levels(tiny_pipeline, rule):
    update = make_update(tiny_pipeline, rule, visited_share=1.0, noise_levels_per_picture=4)
    latents = make_experience(update, REWARDS).trajectory.latents
    units = torch.arange(8).view(-1, update.members)
    rows = update._noised(units, 0, 0, latents, PROMPTS, torch.zeros(8))
    levels = [step.level for step in update.policy.steps]
    places = units.T.flatten().repeat_interleave(4)
    assert {levels.index(level) for level in rows.levels.tolist()} == {0, 1, 2, 3}
    for place, level, noised, clean in zip(places, rows.levels.tolist(), rows.noised, rows.clean, strict=True):
        assert torch.equal(noised, latents[levels.index(level), place])
        assert torch.equal(clean, latents[-1, place])


@pytest.mark.parametrize("kind", ["uniform", "logit_normal", "sampler"])
def test_a_share_of_the_pictures_is_visited_and_the_others_stay_as_they_were(tiny_pipeline, kind):
    update = make_update(tiny_pipeline, noise_levels=kind)
    without = [update._draw(picture, 0, 0, (1,)) for picture in range(400)]
    update.config.visited_share = 0.5
    share = [update._draw(picture, 0, 0, (1,)) for picture in range(400)]
    visited = [bool((steps >= 0).all()) for _, _, steps in share]
    assert 160 < sum(visited) < 240 and all((steps < 0).all() for _, _, steps in without)
    for found, old, is_visited in zip(share, without, visited, strict=True):
        assert is_visited or all(torch.equal(a, b) for a, b in zip(found, old, strict=True))
    # other pictures in another pass
    again = [bool((update._draw(picture, 0, 1, (1,))[2] >= 0).all()) for picture in range(400)]
    assert again != visited


def test_noise_levels_are_stratified(tiny_pipeline):
    import numpy as np

    for count in (1, 3, 7):
        shares = stratified(np.random.default_rng(count), count)
        assert [int(share * count) for share in shares] == list(range(count))
    for kind in ("uniform", "logit_normal", "sampler"):
        update = make_update(copy.deepcopy(tiny_pipeline), noise_levels=kind, noise_levels_per_picture=4)
        levels = torch.stack([update._draw(picture, 0, 0, (1,))[0] for picture in range(64)])
        assert levels.shape == (64, 4) and levels.min() >= 0 and levels.max() <= 999
        if kind == "sampler":
            assert {tuple(row) for row in levels.tolist()} == {tuple(step.level for step in update.policy.steps)}
        else:
            middle = ((levels > 250) & (levels < 750)).float().mean()
            assert middle == pytest.approx(0.5, abs=0.06) if kind == "uniform" else middle > 0.6


def test_dpo_pairs_are_best_and_worst_at_the_same_noise(tiny_pipeline):
    update = make_update(tiny_pipeline, "dpo", noise_levels_per_picture=2)
    assert update.units(torch.tensor(REWARDS)).tolist() == [[1, 0], [6, 5]]
    clean = make_experience(update, REWARDS).trajectory.latents
    rows = update._noised(torch.tensor([[1, 0], [6, 5]]), 0, 0, clean, PROMPTS, torch.tensor(REWARDS))
    assert torch.equal(rows.clean, clean[-1, [1, 1, 6, 6, 0, 0, 5, 5]])
    assert torch.equal(rows.levels[:4], rows.levels[4:])
    noise = (rows.noised - (1 - rows.scale**2).sqrt() * rows.clean) / rows.scale
    torch.testing.assert_close(noise[:4], noise[4:], rtol=1e-3, atol=1e-3)
    assert rows.advantages.tolist() == pytest.approx([0.9, 0.9, 0.8, 0.8, 0.1, 0.1, 0.2, 0.2])


def test_dpo_pairs_do_not_depend_on_how_advantages_are_clipped(tiny_pipeline):
    """Clipped advantages tie; the best and the worst are those of the rewards. Equal rewards are no pair."""
    update = make_update(tiny_pipeline, "dpo", train_adv_clip_max=0.1, advantage_normalization="global")
    chosen = []
    update._noised = lambda units, *rest: chosen.extend(units.tolist())
    update.loss = lambda rows: (update.parameters[0].sum(), {})
    update.step(0, make_experience(update, [0.3, 0.1, 0.8, 0.9, 0.6, 0.7, 0.2, 0.1]))
    assert sorted(chosen) == [[3, 1], [5, 7]]
    assert update.units(torch.tensor([0.5] * 4 + REWARDS[4:])).tolist() == [[0, 0], [6, 5]]


def test_dpo_wants_whole_steps_of_pairs(tiny_pipeline):
    with pytest.raises(ValueError, match="train_batch_size: expected the epoch's 2 pairs"):
        make_update(tiny_pipeline, "dpo", train_batch_size=4)
    with pytest.raises(ValueError, match="sample_group_size: expected at least 2, got 1"):
        DPOConfig(sample_group_size=1)


def test_pictures_are_the_old_loras(tiny_pipeline):
    """The old LoRA samples: with a large decay it stays behind, and so do its pictures."""
    update = make_update(tiny_pipeline, old_decay_rate=1.0, old_decay_limit=0.99)
    first = make_experience(update, REWARDS).trajectory.latents
    update.step(0, Experience(update_trajectory(update), PROMPTS, torch.tensor(REWARDS), torch.arange(8)))
    update.step(1, Experience(update_trajectory(update), PROMPTS, torch.tensor(REWARDS), torch.arange(8)))
    with update.old.applied():
        expected = update.policy.rollout(
            PROMPTS, [sample_seed(0, 0, i) for i in range(8)], 2.0, log_probs=False
        ).latents
    new = update.policy.rollout(PROMPTS, [sample_seed(0, 0, i) for i in range(8)], 2.0, log_probs=False).latents
    drawn = make_experience(update, REWARDS).trajectory.latents
    assert torch.equal(drawn, expected) and not torch.equal(drawn, new) and not torch.equal(drawn, first)


def update_trajectory(update):
    return make_experience(update, REWARDS).trajectory


def test_the_old_lora_follows_by_its_schedule(tiny_pipeline):
    update = make_update(tiny_pipeline, old_decay_rate=0.25, old_decay_limit=0.6)
    decays, expected = [], [shadow.clone() for shadow in update.old.shadow]
    for epoch in range(4):
        metrics = update.step(epoch, make_experience(update, REWARDS))
        decays.append(metrics["old_decay"])
        expected = [
            decays[-1] * old + (1 - decays[-1]) * new.detach()
            for old, new in zip(expected, update.parameters, strict=True)
        ]
        for shadow, wanted in zip(update.old.shadow, expected, strict=True):
            torch.testing.assert_close(shadow, wanted)
    assert decays == [0.0, 0.25, 0.5, 0.6]


def test_training_is_without_guidance_unless_told(tiny_pipeline, rule):
    rows = []
    for guidance in (1.0, 2.0):
        update = make_update(copy.deepcopy(tiny_pipeline), rule, train_guidance_scale=guidance)
        experience = make_experience(update, REWARDS)
        before = update.policy.rows_evaluated
        update.step(0, experience)
        rows.append(update.policy.rows_evaluated - before)
    assert rows[1] == 2 * rows[0]


def test_state_comes_back(tiny_pipeline):
    update = make_update(copy.deepcopy(tiny_pipeline), old_decay_rate=0.3)
    for epoch in range(3):
        update.step(epoch, make_experience(update, REWARDS))
    state, tensors = update.state_dict(), {k: v.clone() for k, v in update.state_tensors().items()}
    other = make_update(copy.deepcopy(tiny_pipeline), old_decay_rate=0.3)
    other.load_state_dict(state)
    other.load_state_tensors(tensors)
    assert other.old.decay == update.old.decay == 0.5
    assert all(torch.equal(a, b) for a, b in zip(other.old.shadow, update.old.shadow, strict=True))
    with pytest.raises(KeyError):
        other.load_state_tensors({})


def test_the_kl_penalty_holds_the_model_to_its_base(tiny_pipeline, rule):
    drift = {}
    for weight in (0.0, 100.0):
        update = make_update(copy.deepcopy(tiny_pipeline), rule, learning_rate=3e-3, train_kl_weight=weight)
        for epoch in range(4):
            metrics = update.step(epoch, make_experience(update, REWARDS))
        assert ("kl_to_base" in metrics) == bool(weight)
        units, clean = torch.arange(8)[:, None].repeat(1, update.members), make_experience(update, REWARDS)
        rows = update._noised(units, 0, 0, clean.trajectory.latents, PROMPTS, torch.zeros(8))
        with torch.no_grad():
            drift[weight] = (update.predict_new(rows) - update.predict_base(rows)).square().mean().item()
    assert 0 < drift[100.0] < 0.5 * drift[0.0]
