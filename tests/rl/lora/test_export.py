import json
import re
import shutil

import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rl.config.ddpo_config import DDPOConfig
from rl.export_lora import main
from rl.lora.export import export_lora, read_lora
from rl.lora.kohya import sdxl_module
from rl.models.stable_diffusion import StableDiffusionPolicy
from rl.rewards.loading import Reward, RewardSet
from rl.trainer import Trainer
from rl.updates.ddpo import DDPOUpdate

# Linear layers, 1 x 1 and 3 x 3 convolutions, inside and outside attention.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "time_emb_proj",
           "conv1", "conv_in"]
SDXL_TARGETS = [*TARGETS, "conv2", "conv_shortcut", "conv_out", "conv", "linear_1", "linear_2"]
WEIGHTS = "pytorch_lora_weights.safetensors"
CLOSE = {"rtol": 0, "atol": 1e-5}


def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


def picture(policy_or_pipeline):
    policy = policy_or_pipeline
    if not isinstance(policy, StableDiffusionPolicy):
        policy = StableDiffusionPolicy(policy, num_steps=4)
    return policy.decode(policy.rollout(["a red circle"], [7], 3.0).latents[-1]).detach()


def fresh(folder):
    return DiffusionPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def trained(tiny_pipeline_folder, tmp_path_factory):
    """A finished run of Stable Diffusion."""
    return train(tiny_pipeline_folder, tmp_path_factory.mktemp("export") / "run", TARGETS)


@pytest.fixture(scope="module")
def trained_sdxl(tiny_sdxl_folder, tmp_path_factory):
    """A finished run of SDXL, with the layers that its kohya names treat specially."""
    return train(tiny_sdxl_folder, tmp_path_factory.mktemp("export-xl") / "run", SDXL_TARGETS)


@pytest.fixture(params=["trained", "trained_sdxl"], ids=["SD", "SDXL"])
def either(request):
    """Both runs, one after the other."""
    return request.getfixturevalue(request.param)


def train(tiny_pipeline_folder, run, targets):
    """A run with a moving average, and the trainer's own pictures: averaged, raw and of the base."""
    config = DDPOConfig(
        output_dir=str(run), model=str(tiny_pipeline_folder), prompts="prompts.txt", rewards=["my_rewards:redness=2.0"],
        num_epochs=2, save_freq=1, sample_num_steps=4, sample_guidance_scale=1.0, sample_batch_size=4,
        sample_num_batches_per_epoch=1, sample_group_size=4, train_batch_size=4, train_learning_rate=3e-2,
        lora_rank=4, lora_alpha=16.0, lora_targets=targets, ema_decay=0.5, log_with=None, eval_at_end=True,
        eval_num_prompts=2, eval_guidance_scales=[1.0], eval_batch_size=2,
    )
    trainer = Trainer(
        config, fresh(tiny_pipeline_folder), RewardSet([Reward("redness", redness)]), ["a red circle", "a | b"],
        DDPOUpdate,
    )
    for number, parameter in enumerate(trainer.lora):
        torch.nn.init.normal_(parameter, std=0.15, generator=torch.Generator().manual_seed(number))
    trainer.train()
    raw = picture(trainer.policy)
    with trainer.average.applied():
        averaged = picture(trainer.policy)
    base = picture(fresh(tiny_pipeline_folder))
    assert (averaged - raw).abs().max() > 1e-3 and (averaged - base).abs().max() > 1e-2, "else nothing is tested"
    return {"run": run, "folder": tiny_pipeline_folder, "averaged": averaged, "raw": raw, "base": base}


@pytest.fixture
def copy_of_run(trained, tmp_path):
    """A run folder that a test may spoil."""
    return shutil.copytree(trained["run"], tmp_path / "run")


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_diffusers_loads_it(either, tmp_path, format):
    out = export_lora(either["run"], format, tmp_path / "red", license="apache-2.0")
    name = {"diffusers": WEIGHTS, "kohya": "red.safetensors"}[format]
    pipeline = fresh(either["folder"])
    pipeline.load_lora_weights(out, weight_name=name)
    torch.testing.assert_close(picture(pipeline), either["averaged"], **CLOSE)
    pipeline.disable_lora()
    assert torch.equal(picture(pipeline), either["base"])
    assert sorted(path.name for path in out.iterdir()) == sorted([name, "README.md", "samples"])


def test_peft_loads_it(either, tmp_path):
    from peft import PeftModel

    out = export_lora(either["run"], "peft", tmp_path / "red", license="apache-2.0")
    pipeline = fresh(either["folder"])
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, out)
    torch.testing.assert_close(picture(pipeline), either["averaged"], **CLOSE)
    with pipeline.unet.disable_adapter():
        assert torch.equal(picture(pipeline), either["base"])
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 16.0)
    assert config["target_modules"] == read_lora(either["run"]).record.targets


def test_fused_is_a_pipeline_of_its_own(either, tmp_path):
    out = export_lora(either["run"], "fused", tmp_path / "red", license="apache-2.0")
    torch.testing.assert_close(picture(fresh(out)), either["averaged"], rtol=0, atol=1e-4)
    (unet,) = (out / "unet").glob("*.safetensors")
    assert not [name for name in load_file(unet) if "lora" in name]
    with safe_open(unet, "pt") as file:
        assert file.metadata()["hyperalign.lora_alpha"] == "16.0"
    assert not [path for path in out.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".tmp"}]


def test_kohya_says_alpha_beside_every_layer(trained, tmp_path):
    out = export_lora(trained["run"], "kohya", tmp_path / "red", license="apache-2.0")
    layers = load_file(out / "red.safetensors")
    downs = [name for name in layers if name.endswith(".lora_down.weight")]
    assert len(downs) == len(read_lora(trained["run"]).weights) / 2
    for name in downs:
        assert layers[name].shape[0] == 4 and layers[name.replace("lora_down.weight", "alpha")] == 16.0
        assert re.fullmatch(r"lora_unet_\w+\.lora_down\.weight", name)
    with safe_open(out / "red.safetensors", "pt") as file:
        header = file.metadata()
    assert (header["ss_network_dim"], header["ss_network_alpha"], header["ss_steps"]) == ("4", "16.0", "2")


def test_kohya_files_of_sdxl_carry_its_original_names(trained_sdxl, tmp_path):
    out = export_lora(trained_sdxl["run"], "kohya", tmp_path / "red", license="other")
    layers = load_file(out / "red.safetensors")
    downs = {name for name in layers if name.endswith(".lora_down.weight")}
    assert len(downs) == len(read_lora(trained_sdxl["run"]).weights) / 2
    assert all(layers[name.replace("lora_down.weight", "alpha")] == 16.0 for name in downs)
    assert not [name for name in layers if "down_blocks" in name or "up_blocks" in name or "mid_block" in name]
    for module in ("input_blocks_4_1_transformer_blocks_0_attn1_to_q", "input_blocks_3_0_op", "label_emb_0_2",
                   "middle_block_2_in_layers_2", "output_blocks_2_2_conv", "output_blocks_3_0_emb_layers_1", "out_2"):
        assert f"lora_unet_{module}.lora_down.weight" in downs
    with safe_open(out / "red.safetensors", "pt") as file:
        assert file.metadata()["ss_base_model_version"] == "sdxl_base_v1-0"  # else A1111 files it under SD 1.x
    assert "stable-diffusion-xl" in yaml.safe_load((out / "README.md").read_text().split("---")[1])["tags"]


@pytest.mark.parametrize("module", ["down_blocks.0.motion_modules.0.proj_in", "class_embedding.linear_1"])
def test_a_layer_without_a_kohya_name_is_refused(module):
    with pytest.raises(ValueError, match=f"got {re.escape(module)}, which has no kohya name"):
        sdxl_module(module, 2)


def test_kohya_needs_the_base_model(copy_of_run, tmp_path):
    config = yaml.safe_load((copy_of_run / "config.yaml").read_text())
    (copy_of_run / "config.yaml").write_text(yaml.safe_dump(config | {"model": str(tmp_path / "moved")}))
    export_lora(copy_of_run, "peft", tmp_path / "peft", license="other")
    with pytest.raises(ValueError, match="Expected the base model at .*moved, found none"):
        export_lora(copy_of_run, "kohya", tmp_path / "red", license="other")


def test_a_checkpoint_gives_its_moving_average_not_the_last_step(either, tmp_path):
    checkpoint = either["run"] / "checkpoints" / "checkpoint_2"
    pipeline = fresh(either["folder"])
    pipeline.load_lora_weights(export_lora(checkpoint, "diffusers", tmp_path / "last", license="other"),
                               weight_name=WEIGHTS)
    torch.testing.assert_close(picture(pipeline), either["averaged"], **CLOSE)
    plain = fresh(either["folder"])
    plain.load_lora_weights(checkpoint, weight_name=WEIGHTS)
    torch.testing.assert_close(picture(plain), either["raw"], **CLOSE)


def test_after_an_early_stop_the_header_names_the_epoch_of_the_weights(copy_of_run, tmp_path):
    path = copy_of_run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best_epoch": 1}))
    with safe_open(export_lora(copy_of_run, "diffusers", tmp_path / "red", license="other") / WEIGHTS, "pt") as file:
        header = file.metadata()
    assert (header["hyperalign.epochs"], header["hyperalign.optimizer_steps"]) == ("1", "1")


def test_header_and_card_say_where_it_comes_from(trained, tmp_path):
    out = export_lora(
        trained["run"], "diffusers", tmp_path / "red", license="creativeml-openrail-m", base_model="owner/base"
    )
    with safe_open(out / WEIGHTS, "pt") as file:
        header = file.metadata()
    assert {name.removeprefix("hyperalign."): value for name, value in header.items() if "hyperalign" in name} == {
        "base_model": "owner/base", "prompts": "prompts.txt", "rewards": '["my_rewards:redness=2.0"]', "epochs": "2",
        "optimizer_steps": "2", "lora_rank": "4", "lora_alpha": "16.0", "license": "creativeml-openrail-m",
    }
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["base_model"]) == ("creativeml-openrail-m", "owner/base")
    assert "a \\| b" in card and "moving average" in card and 'load_lora_weights("red")' in card
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", card)
    assert {"samples/epoch_000001.png", "samples/epoch_000002.png", "samples/evaluation/base_000.png"} <= set(pictures)
    assert all((out / name).is_file() for name in pictures)
    assert str(tmp_path) not in card and str(trained["folder"].parent) not in card


def test_an_earlier_checkpoint_shows_no_later_picture(trained, tmp_path):
    out = export_lora(trained["run"] / "checkpoints" / "checkpoint_1", "diffusers", tmp_path / "red", license="other")
    assert [path.name for path in out.glob("samples/**/*.png")] == ["epoch_000001.png"]
    assert "## Result" not in (out / "README.md").read_text()


def test_a_run_cut_short_or_resumed_gives_its_newest_checkpoint(copy_of_run):
    assert read_lora(copy_of_run).record.final
    summary = json.loads((copy_of_run / "summary.json").read_text())
    (copy_of_run / "summary.json").write_text(json.dumps(summary | {"epochs": 1}))
    assert not read_lora(copy_of_run).record.final
    (copy_of_run / WEIGHTS).unlink()
    assert read_lora(copy_of_run).record.epochs == 2


def test_written_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("rl.lora.export.write_card", fail)
    with pytest.raises(OSError, match="disk full"):
        export_lora(trained["run"], "diffusers", tmp_path / "red", license="other")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format": "ckpt"}, ValueError, "format: expected one of diffusers, peft, kohya, fused, got 'ckpt'"),
        ({"license": "My Licence"}, ValueError, "license: expected a hub identifier"),
        ({"license": ""}, ValueError, "license: expected a hub identifier"),
        ({"push_to_hub": "no-owner", "base_model": "a/b"}, ValueError, "push_to_hub: expected a repository OWNER/NAME"),
        ({"push_to_hub": "me/red"}, ValueError, "base_model: expected a hub id"),
    ],
)
def test_wrong_arguments(trained, tmp_path, changes, error, message):
    arguments = {"format": "diffusers", "license": "other"} | changes
    with pytest.raises(error, match=message):
        export_lora(trained["run"], output=tmp_path / "red", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_wrong_folders(trained, copy_of_run, tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a run folder .* there is no LoRA there"):
        read_lora(tmp_path / "nothing")
    with pytest.raises(FileExistsError, match="output: expected a new or empty folder"):
        export_lora(trained["run"], "peft", copy_of_run, license="other")
    (copy_of_run / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="config.yaml"):
        read_lora(copy_of_run)


def test_weights_without_alpha_are_refused(copy_of_run):
    save_file(load_file(copy_of_run / WEIGHTS), copy_of_run / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="Expected r, lora_alpha and target_modules in the header"):
        read_lora(copy_of_run)


def test_an_average_that_does_not_fit_is_refused(copy_of_run):
    state = copy_of_run / "checkpoints" / "checkpoint_2" / "training_state.safetensors"
    save_file({name: tensor for name, tensor in load_file(state).items() if name != "average.0"}, state)
    with pytest.raises(ValueError, match="moving average to fit"):
        read_lora(state.parent)


def test_another_base_model_is_refused(copy_of_run, trained, tmp_path):
    config = yaml.safe_load((copy_of_run / "config.yaml").read_text())
    other = shutil.copytree(trained["folder"], tmp_path / "other")
    unet = json.loads((other / "unet" / "config.json").read_text()) | {"cross_attention_dim": 32}
    shutil.rmtree(other / "unet")
    from diffusers import UNet2DConditionModel

    UNet2DConditionModel.from_config(unet).save_pretrained(other / "unet")
    (copy_of_run / "config.yaml").write_text(yaml.safe_dump(config | {"model": str(other)}))
    with pytest.raises(ValueError, match="Expected the base model of the run at"):
        export_lora(copy_of_run, "fused", tmp_path / "red", license="other")


def test_command_pushes_when_asked(trained, tmp_path, monkeypatch, capsys):
    calls = []

    class Hub:
        def create_repo(self, repo_id, **options):
            calls.append(("create", repo_id, options))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    command = [str(trained["run"]), "--format", "diffusers", "--license", "other", "--output"]
    main([*command, str(tmp_path / "kept")])
    assert calls == []
    main([*command, str(tmp_path / "red"), "--base_model", "owner/base", "--push_to_hub", "me/red"])
    assert calls == [
        ("create", "me/red", {"exist_ok": True}), ("upload", "me/red", ["README.md", WEIGHTS, "samples"])
    ]
    assert 'load_lora_weights("me/red")' in (tmp_path / "red" / "README.md").read_text()
    assert capsys.readouterr().out.endswith("red and pushed it to me/red.\n")


def test_command_refuses(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(trained["run"]), "--format", "peft", "--output", str(tmp_path / "red")])
    assert "--license" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "--format", "peft", "--license", "other", "--output", str(tmp_path / "red")])
    assert str(caught.value).startswith("hyperalign-export-lora: Expected a run folder")
