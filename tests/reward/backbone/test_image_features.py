"""Image features with the last block at the class token alone equal open_clip's own, also in their gradients."""

import open_clip
import pytest
import torch

from reward.backbone.attention import pack_attention
from reward.backbone.image_features import encode_image, pools_the_class_token

TEXT = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
TOWERS = [{}, {"ls_init_value": 0.3}, {"no_ln_pre": True}, {"final_ln_after_pool": True}, {"patch_dropout": 0.5}]


def model_of(dtype=torch.float64, **vision) -> open_clip.CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 24, "layers": 3, "width": 16, "head_width": 8, "patch_size": 8} | vision
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=TEXT).to(dtype).eval()
    for name, weight in model.named_parameters():
        if "bias" in name or "ln_" in name or "embedding" in name:
            torch.nn.init.normal_(weight)  # an untrained tower's biases are zero
    pack_attention(model)
    return model


def pixels(seed=0, count=3, dtype=torch.float64):
    return torch.randn(count, 3, 24, 24, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("vision", TOWERS)
def test_features_are_open_clips(vision, seed):
    model = model_of(**vision)
    assert pools_the_class_token(model)
    torch.testing.assert_close(
        encode_image(model, pixels(seed)), model.encode_image(pixels(seed)), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_other_dtypes(dtype, tolerance):
    model = model_of(dtype)
    found = encode_image(model, pixels(dtype=dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found, model.encode_image(pixels(dtype=dtype)), rtol=tolerance, atol=tolerance)


def test_autocast():
    model, x = model_of(torch.float32), pixels(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, theirs = encode_image(model, x), model.encode_image(x)
    assert found.dtype == theirs.dtype
    torch.testing.assert_close(found, theirs, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("vision", TOWERS[:3])
def test_gradients_are_open_clips(vision):
    found = []
    for encode in (encode_image, open_clip.CLIP.encode_image):
        model, x = model_of(**vision), pixels().requires_grad_()
        features = encode(model, x)
        features.backward(torch.linspace(-1, 1, features.numel(), dtype=x.dtype).view_as(features))
        found.append({"pixels": x.grad} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]["pixels"].abs().sum() > 0
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-8, atol=1e-10)


def test_the_last_block_sees_one_token(monkeypatch):
    model, seen = model_of(), []
    gelu = torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.GELU, "forward", lambda self, x: [seen.append(tuple(x.shape)), gelu(x)][1])
    encode_image(model, pixels())
    assert seen == [(3, 10, 64), (3, 10, 64), (3, 64)]


WATCHED = ["visual", "visual.transformer", "visual.transformer.resblocks.2", "visual.transformer.resblocks.2.mlp"]


@pytest.mark.parametrize("where", WATCHED)
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_a_tower_that_is_looked_at_runs_whole(where, kind):
    model, seen = model_of(), []
    getattr(model.get_submodule(where), kind)(lambda module, *rest: seen.append(where))
    encode_image(model, pixels().requires_grad_()).sum().backward()
    assert seen == [where]


def test_an_adapter_around_the_last_attention_is_not_passed_over():
    from peft import LoraConfig, inject_adapter_in_model

    model = model_of(torch.float32)
    names = [f"visual.transformer.resblocks.{i}.attn" for i in range(3)]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=names, init_lora_weights=False), model)
    model.eval()
    x = pixels(dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(encode_image(model, x), model.encode_image(x))


@pytest.mark.parametrize("where", WATCHED)
def test_a_replaced_forward_is_called(where):
    """As accelerate's offloading does."""
    model, seen = model_of(), []
    module = model.get_submodule(where)
    own = module.forward
    module.forward = lambda *inputs, **options: [seen.append(where), own(*inputs, **options)][1]
    assert torch.equal(encode_image(model, pixels()), model.encode_image(pixels()))
    assert seen == [where, where]


def test_offloaded_towers():
    from accelerate import cpu_offload

    whole = model_of(torch.float32)
    for where in ("visual", "visual.transformer"):
        model, x = model_of(torch.float32), pixels(dtype=torch.float32)
        cpu_offload(model.get_submodule(where), "cpu")
        with torch.no_grad():
            torch.testing.assert_close(encode_image(model, x), whole.encode_image(x))


@pytest.mark.parametrize("where", WATCHED[:3])
def test_a_compiled_module_is_called(where):
    model, seen = model_of(torch.float32), []

    def backend(graph, _):
        seen.append(where)
        return graph.forward

    model.get_submodule(where).compile(backend=backend)
    with torch.no_grad():
        encode_image(model, pixels(dtype=torch.float32))
    torch._dynamo.reset()
    assert seen


class Own(open_clip.transformer.ResidualAttentionBlock):
    def forward(self, x, **options):
        return x


def test_other_blocks_are_called():
    model, plain = model_of(), model_of()
    model.visual.transformer.resblocks[-1].__class__ = Own
    other = torch.nn.Identity()
    other.forward = lambda x, **options: x
    plain.visual.transformer.resblocks[-1] = other
    for changed in (model, plain):
        assert torch.equal(encode_image(changed, pixels()), changed.encode_image(pixels()))
    assert torch.equal(encode_image(model, pixels()), encode_image(plain, pixels()))
    assert not torch.allclose(encode_image(model, pixels()), encode_image(model_of(), pixels()))


def test_a_checkpointed_tower_runs_whole():
    model, seen = model_of(), []
    model.set_grad_checkpointing()
    model.visual.transformer.resblocks[-1].mlp.gelu.forward = lambda x: [seen.append(x.ndim), x][1]
    encode_image(model, pixels())
    assert seen == [3]


@pytest.mark.parametrize("vision", [{"pool_type": "avg"}, {"attentional_pool": True, "attn_pooler_heads": 2},
                                    {"qk_norm": True, "block_type": "custom"}])
def test_other_towers_are_left_alone(vision):
    model = model_of(**vision)
    assert not pools_the_class_token(model)
    assert torch.equal(encode_image(model, pixels()), model.encode_image(pixels()))


def test_a_convolutional_tower_is_left_alone():
    model = model_of(layers=[1, 1, 1, 1], width=8, image_size=32, head_width=8)
    assert not pools_the_class_token(model)
